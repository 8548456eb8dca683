"""Vision branch: an image encoder over the frames of a clip, pooled over time (paper section 6.2).

The encoder is any image model of transformers (ConvNeXt, DINOv2, ViT, EfficientNet, ResNet, ...), trained with the
rest or frozen. Its batch norms keep their pre-trained statistics, as the frames of a batch are of few people. Only real
frames are encoded, so padding takes neither time nor memory.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from emimic.model import pooling
from emimic.model.backbones import load_pretrained, make_load_error
from emimic.model.branches import Branch
from emimic.model.images import Preprocessing
from emimic.model.settings import VisionSettings
from emimic.task import ModelError

WHAT = "an image encoder"


class VisionBranch(Branch):
    """Frames (frame, height, width, 3) of 8 bits -> encoder -> poolings over time, concatenated."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        features, units = config["features"], config["lstm_units"] or config["features"]
        widths = [
            features * (2 if config["global_std"] else 1) if config["global_vector"] else 0,
            2 * features if config["attentive"] else 0,
            units if config["lstm"] else 0,
        ]
        super().__init__(sum(widths), dropout=config["dropout"], freeze=config["freeze"])
        self.config = dict(config)
        self.backbone = _build_backbone(config["encoder_config"])
        if config["attentive"]:
            self.attention = pooling.AttentiveStatistics(features)
        if config["lstm"]:
            layers = config["lstm_layers"]
            # torch warns of dropout where no second layer could use it.
            dropout = config["lstm_dropout"] if layers > 1 else 0.0
            self.lstm = nn.LSTM(features, units, layers, batch_first=True, dropout=dropout)
        self.preprocessing = Preprocessing.of_dict(config["preprocessing"])

    @property
    def poolings(self) -> list[pooling.Pooling]:
        """Poolings of the frames' features, in order."""
        config, pools = self.config, list[pooling.Pooling]()
        if config["global_vector"]:
            kind = pooling.MeanStd if config["global_std"] else pooling.Mean
            pools.append(kind(config["features"]))
        if config["attentive"]:
            pools.append(self.attention)
        if config["lstm"]:
            pools.append(pooling.LastOutput(self.lstm))
        return pools

    def encode(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return vectors (batch, width) of frames and mask (batch, frame).

        Args:
            values: (batch, frame, height, width, 3) uint8, or their features (batch, frame, feature).
            mask: true at real frames.
        """
        real = values[mask]
        encoded = real.to(self.missing.dtype) if values.ndim == 3 else self.encode_frames(real)
        frames = encoded.new_zeros(*mask.shape, encoded.shape[-1]).index_put((mask,), encoded)
        return torch.cat([pool(frames, mask) for pool in self.poolings], dim=-1)

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Return features (frame, feature) of frames (frame, height, width, 3) uint8."""
        again = self.config["checkpoint_frames"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            parts = frames.split(again or self.config["batch_frames"])
            if again and torch.is_grad_enabled():
                return torch.cat([checkpoint(self._encode_part, part, use_reentrant=False) for part in parts])
            return torch.cat([self._encode_part(part) for part in parts])

    def _encode_part(self, frames: Tensor) -> Tensor:
        dtype = self.missing.dtype
        scale, shift = (
            torch.tensor(values, dtype=dtype, device=frames.device)
            for values in (self.preprocessing.scale, self.preprocessing.shift)
        )
        pixels = (frames.to(dtype) * scale + shift).permute(0, 3, 1, 2)
        return compute_features(self.backbone, pixels)

    def fill(self, settings: VisionSettings) -> None:
        """Load the pre-trained encoder that the settings name. Raises ModelError."""
        if settings.encoder is None:
            return
        loaded = _remove_pooler(load_pretrained(AutoModel, settings.encoder, WHAT))
        self.backbone.load_state_dict(loaded.state_dict())

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode; batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


def compute_features(backbone: nn.Module, pixels: Tensor) -> Tensor:
    """Return one vector per image, (image, feature), of pixels (image, 3, height, width).

    It is the encoder's own pooled output where that has no weights of its own beside the encoder's (ConvNeXt, ResNet,
    EfficientNet), else the class token, else the mean over patches.
    """
    output = backbone(pixel_values=pixels)
    hidden: Tensor = output.last_hidden_state
    if hidden.ndim == 4:
        pooled = getattr(output, "pooler_output", None)
        return hidden.mean(dim=(2, 3)) if pooled is None else pooled.flatten(1)
    has_token = any(name.rpartition(".")[2] == "cls_token" for name, _ in backbone.named_parameters())
    return hidden[:, 0] if has_token else hidden.mean(dim=1)


def make_config(settings: VisionSettings) -> dict[str, Any]:
    """Return what a model's configuration stores of the branch, see `branches`. Raises ModelError."""
    config = _read_config(settings)
    preprocessing = _read_preprocessing(settings, config)
    encoder_config = {"model_type": config.model_type, **config.to_diff_dict()}
    values = settings.model_dump(mode="json", exclude={"encoder", "encoder_config"})
    return {
        **values,
        "encoder_config": encoder_config,
        "preprocessing": dataclasses.asdict(preprocessing),
        "features": _measure_features(encoder_config, preprocessing),
    }


def build(config: Mapping[str, Any]) -> VisionBranch:
    """Return the branch of a configuration, with random weights."""
    return VisionBranch(config)


def _read_config(settings: VisionSettings) -> Any:
    try:
        if settings.encoder_config is not None:
            values = dict(settings.encoder_config)
            config = AutoConfig.for_model(values.pop("model_type", ""), **values)
        else:
            config = AutoConfig.from_pretrained(settings.encoder, trust_remote_code=False)
    except Exception as error:  # its errors have no other common base
        raise make_load_error(str(settings.encoder or "vision.encoder_config"), WHAT, error) from error
    for name in ("architectures", "id2label", "label2id"):  # of another task
        if hasattr(config, name):
            setattr(config, name, type(config)().to_dict().get(name))
    return config


def _read_preprocessing(settings: VisionSettings, config: Any) -> Preprocessing:
    if settings.encoder is None:
        return Preprocessing.of_size(int(getattr(config, "image_size", None) or 224))
    try:
        # The backend without torchvision.
        processor = AutoImageProcessor.from_pretrained(
            settings.encoder, backend="pil", trust_remote_code=False
        )
        return Preprocessing.of_processor(processor)
    except Exception as error:  # its errors have no other common base
        raise make_load_error(settings.encoder, f"{WHAT} with its image processor", error) from error


def _build_backbone(encoder_config: Mapping[str, Any]) -> nn.Module:
    values = dict(encoder_config)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    try:
        model = AutoModel.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise make_load_error(f"a {config.model_type} configuration", WHAT, error) from error
    if model.main_input_name != "pixel_values":
        raise ModelError(
            f"vision's encoder is a {config.model_type}, which takes {model.main_input_name}; expected {WHAT}, such as "
            "facebook/convnext-tiny-224: name one of those"
        )
    return _remove_pooler(model)


def _remove_pooler(model: Any) -> nn.Module:
    """Return a model without the dense layer of another task behind its class token."""
    pooler = getattr(model, "pooler", None)
    if pooler is not None and next(pooler.parameters(), None) is not None:
        model.pooler = None
    return model  # type: ignore[no-any-return]


def _measure_features(encoder_config: Mapping[str, Any], preprocessing: Preprocessing) -> int:
    """Return the number of features of an image, without computing any."""
    with torch.device("meta"):
        backbone = _build_backbone(encoder_config).eval()
        image = torch.zeros(1, 3, *preprocessing.shape)
        try:
            return compute_features(backbone, image).shape[1]
        except (ValueError, RuntimeError) as error:
            name = str(encoder_config["model_type"])
            raise make_load_error(f"a {name} with images of {preprocessing.shape}", WHAT, error) from error
