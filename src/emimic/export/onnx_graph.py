"""EmiModel as one ONNX graph: no branch depends on data, so every length and batch size is possible."""

import io
from typing import Any, Final

import torch
from torch import Tensor, nn

from emimic.model import encoders, frontend, whisper
from emimic.model.layers import concatenate_layers, record_layers
from emimic.model.local_attention import compute_biases
from emimic.model.model import EmiModel
from emimic.model.windows import Windows, regress_windows
from emimic.task import SAMPLE_RATE, ModelError

_OPEN_AXES: Final = {
    "samples": {0: "batch", 1: "sample"},
    "lengths": {0: "batch"},
    "rows": {0: "window"},
    "starts": {0: "window"},
    "ends": {0: "window"},
    "intensities": {0: "window"},
    "tokens": {0: "batch", 1: "token"},
    "token_lengths": {0: "batch"},
    "frames": {0: "batch"},
    "hidden": {0: "batch", 1: "frame"},
    "pooled": {0: "window"},
    "vad": {0: "batch", 1: "frame"},
    "vad_means": {0: "window"},
}
"""Axes of any length by input and output."""


class Graph(nn.Module):
    """The model from prepared samples to predictions, always masked; computes the same as `EmiModel.forward`."""

    waves: Tensor
    filters: Tensor
    positions: Tensor

    def __init__(self, model: EmiModel) -> None:
        super().__init__()
        self.model = model.eval()
        config: Any = model.config.encoder_config
        self.whisper = config.model_type == "whisper"
        if self.whisper:
            # A spectrum as a convolution: one kernel each for the cosine and the sine of each frequency.
            tap = torch.arange(frontend.MEL_WINDOW, dtype=torch.float64)
            angle = 2 * torch.pi / frontend.MEL_WINDOW * tap
            phase = angle * torch.arange(frontend.MEL_WINDOW // 2 + 1)[:, None]
            window = 0.5 - 0.5 * torch.cos(angle)
            waves = torch.cat([phase.cos(), phase.sin()]) * window
            self.register_buffer("waves", waves[:, None].float())
            filters = torch.from_numpy(frontend.make_mel_filters(config.num_mel_bins))
            self.register_buffer("filters", filters.T.float())
            # No clip is longer than the model's cut.
            frames = model.count_frames(round(model.config.max_seconds * SAMPLE_RATE))
            encoder: Any = model.encoder
            self.conv1, self.conv2 = _convert_to_linear(encoder.conv1), _convert_to_linear(encoder.conv2)
            self.register_buffer("positions", encoder.embed_positions.weight[:frames].detach().clone())
        else:
            stack: Any = self.model.encoder.feature_extractor
            self.convs = nn.ModuleList(_convert_to_linear(layer.conv) for layer in stack.conv_layers)
        self.eval()  # otherwise the exporter "restores" training, dropout included

    def forward(
        self,
        samples: Tensor,
        lengths: Tensor,
        *further: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the outputs of `to_onnx`, in that order.

        Args:
            samples: (batch, sample).
            lengths: (batch,).
            further: of a model with a text branch tokens (batch, token) and token_lengths (batch,), 0 for a clip
                without words; else rows, starts and ends (window,) and, of a Whisper encoder, reach ().
        """
        if self.whisper:
            hidden, frames = self._encode_mels(samples, lengths, further[3] if len(further) > 3 else None)
        else:
            hidden, frames = self._encode_samples(samples, lengths)
        real = _make_mask(hidden.shape[1], frames)
        predicts_vad = self.model.config.predicts_vad
        if self.model.branches:
            tokens, token_lengths = further
            text = tokens, _make_mask(tokens.shape[1], token_lengths)
            clips = self.model.regress(hidden, real, further={"text": text})
            parts = [clips.intensities, frames, hidden, clips.pooled, *([clips.vad] if predicts_vad else [])]
            return tuple(part for part in parts if part is not None)
        windows = regress_windows(self.model, hidden, real, Windows(*further[:3]))
        vad = [windows.vad, windows.vad_means] if predicts_vad else []
        parts = [windows.intensities, frames, hidden, windows.pooled, *vad]
        return tuple(part for part in parts if part is not None)

    def _encode_samples(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden states and their lengths of an encoder on samples.

        The convolution stack is (batch, frame, feature) throughout: no layer norm needs a transposition, and every
        product is a matrix product, which can run in 8 bits.
        """
        encoder: Any = self.model.encoder
        config = encoder.config
        frames, hidden = lengths, samples[..., None]
        layers = encoder.feature_extractor.conv_layers
        for linear, layer, kernel, stride in zip(
            self.convs, layers, config.conv_kernel, config.conv_stride, strict=True
        ):
            frames = (frames - kernel) // stride + 1
            hidden = linear(_slide(hidden, kernel, stride))
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                hidden = norm(hidden.transpose(1, 2)).transpose(1, 2)
            elif norm is not None:
                hidden = norm(hidden)
            hidden = layer.activation(hidden)
        hidden = encoder.feature_projection(hidden)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        mask = _make_mask(hidden.shape[1], frames) if encoders.is_exact_under_padding(config) else None
        layers = self.model.config.hidden_layers
        with record_layers() as outputs:
            output = encoder.encoder(hidden, attention_mask=mask)
        return output.last_hidden_state if layers is None else concatenate_layers(outputs, layers), frames

    def _encode_mels(self, samples: Tensor, lengths: Tensor, reach: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return hidden states and their lengths of Whisper's encoder."""
        encoder: Any = self.model.encoder
        mel_frames = lengths // frontend.MEL_HOP
        features = self._compute_log_mel(samples * _make_mask(samples.shape[1], lengths))
        # The second convolution reaches one step past the clip's end, where a single clip has zero padding.
        real = _make_mask(features.shape[1], mel_frames)[..., None]
        hidden = nn.functional.gelu(self.conv1(_add_neighbors(features * real, 1))) * real
        hidden = nn.functional.gelu(self.conv2(_add_neighbors(hidden, 2)))
        frames = (mel_frames + 1) // 2
        hidden = hidden + self.positions[: hidden.shape[1]]
        relative = whisper.get_relative_frames(encoder.config)
        limits = [limit for limit in (relative, self.model.config.reach) if limit is not None]
        if limits:
            reach = torch.tensor(min(limits)) if reach is None else reach.clamp(max=min(limits))
        real = _make_mask(hidden.shape[1], frames)
        if relative is not None:
            biases = compute_biases(encoder.relative_bias, real, reach, torch.float32)
        else:
            visible = real[:, None, None]
            if reach is not None:
                number = torch.arange(hidden.shape[1], device=frames.device)
                visible = visible & ((number[:, None] - number).abs() <= reach)
            biases = [(~visible).float() * torch.finfo(torch.float32).min] * len(encoder.layers)
        outputs = []
        for layer, bias in zip(encoder.layers, biases, strict=True):
            hidden = layer(hidden, bias)
            outputs.append(hidden)
        if (layers := self.model.config.hidden_layers) is not None:
            return torch.cat([outputs[layer - 1] for layer in layers], dim=-1), frames
        return encoder.layer_norm(outputs[-1]), frames

    def _compute_log_mel(self, samples: Tensor) -> Tensor:
        """Return log mel features (batch, mel frame, bin) of (batch, sample), as `frontend.compute_log_mel`."""
        half = frontend.MEL_WINDOW // 2
        count = samples.shape[1] // frontend.MEL_HOP
        padded = torch.cat([samples[:, 1 : half + 1].flip(1), samples], dim=1)
        padded = nn.functional.pad(padded, (0, half + 2 * frontend.MEL_HOP))
        waves = nn.functional.conv1d(padded[:, None], self.waves, stride=frontend.MEL_HOP)
        cosine, sine = waves.square().chunk(2, dim=1)
        features = (self.filters @ (cosine + sine)).clamp(min=1e-10).log10()
        floor: Any = whisper.get_mel_floor(self.model.config.encoder_config)
        if floor is None:
            floor = features.amax(dim=(1, 2), keepdim=True) - 8.0
        return ((features.clamp(min=floor)[..., :count] + 4.0) / 4.0).transpose(1, 2)


def _make_mask(count: Any, lengths: Tensor) -> Tensor:
    """Return a mask (batch, count) for lengths (batch,), True before each length."""
    return torch.arange(count, device=lengths.device)[None, :] < lengths[:, None]


def _convert_to_linear(convolution: Any) -> nn.Linear:
    """Return a convolution as a matrix product, which can run in 8 bits; its input is (..., tap * feature)."""
    outputs, inputs, taps = convolution.weight.shape
    linear = nn.Linear(taps * inputs, outputs, bias=convolution.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.transpose(1, 2).flatten(1))
        if convolution.bias is not None:
            linear.bias.copy_(convolution.bias)
    return linear


def _slide(frames: Tensor, kernel: int, stride: int) -> Tensor:
    """Return the windows (batch, step, kernel * feature) of an unpadded convolution over (batch, frame, feature).

    They consist of contiguous slices of `stride` frames each, as most kernels are hardly wider than the stride.
    """
    steps = (frames.shape[1] - kernel) // stride + 1
    parts = []
    for first in range(0, kernel, stride):
        width = min(stride, kernel - first)
        if width == stride:
            part = frames[:, first : first + steps * stride].reshape(
                frames.shape[0], steps, stride * frames.shape[2]
            )
        else:
            part = torch.cat(
                [
                    frames[:, first + tap : first + tap + stride * (steps - 1) + 1 : stride]
                    for tap in range(width)
                ],
                dim=-1,
            )
        parts.append(part)
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def _add_neighbors(frames: Tensor, stride: int) -> Tensor:
    """Return each `stride`-th frame of (batch, frame, feature) with its neighbors, (batch, step, 3 * feature)."""
    padded = nn.functional.pad(frames, (0, 0, 1, 1))
    return torch.cat([padded[:, :-2:stride], padded[:, 1:-1:stride], padded[:, 2::stride]], dim=-1)


def to_onnx(model: EmiModel) -> bytes:
    """Return the model as ONNX (opset 17, with weights), not optimized.

    Inputs: samples (batch, sample) float32, prepared; and, all int64, lengths (batch,), and windows of the clips'
    frames: rows, starts and ends (window,), which beyond a clip's frames end with it; and, of a Whisper encoder,
    reach (), the number of frames on either side that a frame attends to. Outputs: intensities
    (window, target), frames (batch,) int64, hidden (batch, frame, feature), pooled (window, 2 * feature), and if the
    model predicts V/A/D vad (batch, frame, 3) and vad_means (window, 3). `two_graphs.cut` cuts it at hidden and frames.

    With a text branch the inputs after lengths are tokens (batch, token) and token_lengths (batch,) int64: a clip is
    the window, and there are no vad_means.

    torch warns while tracing. The export is verified at several lengths and batch sizes instead. No filter is set here,
    since filters affect the entire process and its threads; the command line sets them.

    Raises:
        ModelError: The encoder can't be traced.
    """
    inner: Any = model.config.encoder_config
    branches: Any = model.branches.values()
    configs = [inner, *(branch.backbone.config for branch in branches)]
    example = _make_example(model)
    outputs = ["intensities", "frames", "hidden", "pooled", *(["vad"] if model.config.predicts_vad else [])]
    outputs += ["vad_means"] if model.config.predicts_vad and not model.branches else []
    file = io.BytesIO()
    attention = [config._attn_implementation for config in configs]
    # torch's fused attention is exported with a guard for fully masked rows, which takes a twentieth of the time;
    # here masked scores are finite.
    for config in configs:
        config._attn_implementation = "eager"
    try:
        torch.onnx.export(
            Graph(model),
            tuple(example.values()),
            file,  # type: ignore[arg-type]
            input_names=list(example),
            output_names=outputs,
            dynamic_axes={name: _OPEN_AXES[name] for name in (*example, *outputs) if name in _OPEN_AXES},
            opset_version=17,
            # torch's newer exporter fixes the LSTM to the length of the example.
            dynamo=False,
        )
    except Warning as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"this {inner.model_type} encoder can't be exported while warnings are errors; found one of torch's: "
            f"{reason}. Leave -W error out here, or filter it"
        ) from error
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        raise ModelError(
            f"this {inner.model_type} encoder can't be exported: {' '.join(str(error).split())[:300]}"
        ) from error
    finally:
        for config, implementation in zip(configs, attention, strict=True):
            config._attn_implementation = implementation
    return file.getvalue()


def _make_example(model: EmiModel) -> dict[str, Tensor]:
    """Return inputs of the graph by name, in their order, with which it is traced."""
    longest = round(model.config.max_seconds * SAMPLE_RATE)
    shortest = model.clip_format.min_samples
    long = max(shortest, min(4000, longest))
    short = max(shortest, long * 5 // 8) if model.exact_under_padding else long
    example = {"samples": torch.zeros(2, long), "lengths": torch.tensor([long, short])}
    if "text" in model.branches:
        text: Any = model.branches["text"]
        example["tokens"] = torch.full((2, 4), text.padding)
        example["token_lengths"] = torch.tensor([4, 0])
        return example
    example["rows"], example["starts"] = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
    example["ends"] = torch.tensor([9999, 9999, 9999])
    if model.config.encoder_config.model_type == "whisper":
        example["reach"] = torch.tensor(2)
    return example
