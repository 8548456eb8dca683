"""EmiModel as one ONNX graph: no branch looks at data, so every length and batch size stays open."""

import io
from typing import Any

import torch
from torch import Tensor, nn

from emimic.model import encoders
from emimic.model.model import EmiModel
from emimic.task import SAMPLE_RATE, ModelError


class Graph(nn.Module):
    """Prepared samples to answers, always under the mask; the same weights and formulas as the model's own forward."""

    waves: Tensor
    filters: Tensor
    positions: Tensor

    def __init__(self, model: EmiModel) -> None:
        super().__init__()
        self.model = model.eval()
        config: Any = model.config.encoder_config
        self.whisper = config.model_type == "whisper"
        if self.whisper:
            # A spectrum as a convolution: one kernel for the cosine and one for the sine of each frequency.
            tap = torch.arange(encoders.MEL_WINDOW, dtype=torch.float64)
            angle = 2 * torch.pi / encoders.MEL_WINDOW * tap
            phase = angle * torch.arange(encoders.MEL_WINDOW // 2 + 1)[:, None]
            window = 0.5 - 0.5 * torch.cos(angle)
            waves = torch.cat([phase.cos(), phase.sin()]) * window
            self.register_buffer("waves", waves[:, None].float())
            filters = torch.from_numpy(encoders.mel_filters(config.num_mel_bins))
            self.register_buffer("filters", filters.T.float())
            # No clip is longer than the model's cut.
            most = model.num_frames(round(model.config.max_seconds * SAMPLE_RATE))
            encoder: Any = model.encoder
            self.conv1, self.conv2 = _as_linear(encoder.conv1), _as_linear(encoder.conv2)
            self.register_buffer("positions", encoder.embed_positions.weight[:most].detach().clone())
        else:
            stack: Any = self.model.encoder.feature_extractor
            self.convs = nn.ModuleList(_as_linear(layer.conv) for layer in stack.conv_layers)
        self.eval()  # else the exporter "restores" training, dropout included

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """samples (batch, sample), lengths (batch,) -> intensities (batch, target), frames (batch,), hidden
        (batch, frame, feature), pooled (batch, 2 * feature), then vad (batch, frame, 3) when the model answers it."""
        hidden, frames = (self._whisper if self.whisper else self._raw)(samples, lengths)
        real = _real(hidden.shape[1], frames)
        output = self.model.regress(hidden, real)
        vad = (output.vad,) if self.model.config.predicts_vad else ()
        return output.intensities, frames, hidden, output.pooled, *vad

    def _raw(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The convolution stack frame by frame, (batch, frame, feature) throughout: no layer norm needs a
        transposition, and every product is a matrix product, which runs in 8 bits too."""
        encoder: Any = self.model.encoder
        config = encoder.config
        frames, hidden = lengths, samples[..., None]
        layers = encoder.feature_extractor.conv_layers
        for linear, layer, kernel, stride in zip(
            self.convs, layers, config.conv_kernel, config.conv_stride, strict=True
        ):
            frames = (frames - kernel) // stride + 1
            hidden = linear(_windows(hidden, kernel, stride))
            norm = getattr(layer, "layer_norm", None)
            if isinstance(norm, nn.GroupNorm):
                hidden = norm(hidden.transpose(1, 2)).transpose(1, 2)
            elif norm is not None:
                hidden = norm(hidden)
            hidden = layer.activation(hidden)
        hidden = encoder.feature_projection(hidden)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        mask = _real(hidden.shape[1], frames) if encoders.is_exact_under_padding(config) else None
        layers = self.model.config.hidden_layers
        with encoders.record_layers() as outputs:
            output = encoder.encoder(hidden, attention_mask=mask)
        return output.last_hidden_state if layers is None else encoders.side_by_side(outputs, layers), frames

    def _whisper(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        encoder: Any = self.model.encoder
        heard = lengths // encoders.MEL_HOP
        features = self._log_mel(samples * _real(samples.shape[1], lengths))
        # The second convolution reaches one step past the clip's end, where a clip alone has its zero padding.
        real = _real(features.shape[1], heard)[..., None]
        hidden = nn.functional.gelu(self.conv1(_threes(features * real, 1))) * real
        hidden = nn.functional.gelu(self.conv2(_threes(hidden, 2)))
        hidden = hidden + self.positions[: hidden.shape[1]]
        frames = (heard + 1) // 2
        bias = (~_real(hidden.shape[1], frames)).float() * torch.finfo(torch.float32).min
        outputs = []
        for layer in encoder.layers:
            hidden = layer(hidden, bias[:, None, None])
            outputs.append(hidden)
        if (wanted := self.model.config.hidden_layers) is not None:
            return torch.cat([outputs[layer - 1] for layer in wanted], dim=-1), frames
        return encoder.layer_norm(hidden), frames

    def _log_mel(self, samples: Tensor) -> Tensor:
        """As `encoders.compute_log_mel`: (batch, sample) -> (batch, mel frame, bin)."""
        half = encoders.MEL_WINDOW // 2
        count = samples.shape[1] // encoders.MEL_HOP
        whole = torch.cat([samples[:, 1 : half + 1].flip(1), samples], dim=1)
        whole = nn.functional.pad(whole, (0, half + 2 * encoders.MEL_HOP))
        waves = nn.functional.conv1d(whole[:, None], self.waves, stride=encoders.MEL_HOP)
        cosine, sine = waves.square().chunk(2, dim=1)
        features = (self.filters @ (cosine + sine)).clamp(min=1e-10).log10()
        peak = features.amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(features, peak - 8.0)[..., :count] + 4.0) / 4.0).transpose(1, 2)


def _real(count: Any, lengths: Tensor) -> Tensor:
    """(batch,) -> (batch, count), true before each length."""
    return torch.arange(count, device=lengths.device)[None, :] < lengths[:, None]


def _as_linear(convolution: Any) -> nn.Linear:
    """A convolution as the matrix product it is, which runs in 8 bits too: input (..., tap * feature)."""
    outputs, inputs, taps = convolution.weight.shape
    linear = nn.Linear(taps * inputs, outputs, bias=convolution.bias is not None)
    with torch.no_grad():
        linear.weight.copy_(convolution.weight.transpose(1, 2).flatten(1))
        if convolution.bias is not None:
            linear.bias.copy_(convolution.bias)
    return linear


def _windows(frames: Tensor, kernel: int, stride: int) -> Tensor:
    """(batch, frame, feature) -> what each step of a convolution without padding sees, (batch, step, kernel * feature).

    In slices that lie together in memory, `stride` frames each, as a kernel is mostly hardly wider than its stride.
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


def _threes(frames: Tensor, stride: int) -> Tensor:
    """(batch, frame, feature) -> each `stride`-th frame with its neighbours, (batch, frame / stride, 3 * feature)."""
    padded = nn.functional.pad(frames, (0, 0, 1, 1))
    return torch.cat([padded[:, :-2:stride], padded[:, 1:-1:stride], padded[:, 2::stride]], dim=-1)


def to_onnx(model: EmiModel) -> bytes:
    """The graph as ONNX (opset 17, weights inside), not optimised.

    Inputs: samples (batch, sample) float32, prepared; lengths (batch,) int64. Outputs: intensities (batch, target),
    frames (batch,) int64, hidden (batch, frame, feature), pooled (batch, 2 * feature), and vad (batch, frame, 3) when
    the model answers it. Raises ModelError when the encoder can't be traced.

    torch warns while it traces of what may go wrong (the export is verified at several lengths and batch sizes
    instead); no filter is set here, since filters belong to the process and other threads: the command line has them.
    """
    most = round(model.config.max_seconds * SAMPLE_RATE)
    long = max(model.min_samples, min(4000, most))
    short = max(model.min_samples, long * 5 // 8) if model.exact_under_padding else long
    open_axes = {
        "samples": {0: "batch", 1: "sample"},
        "lengths": {0: "batch"},
        "intensities": {0: "batch"},
        "frames": {0: "batch"},
        "hidden": {0: "batch", 1: "frame"},
        "pooled": {0: "batch"},
        "vad": {0: "batch", 1: "frame"},
    }
    outputs = ["intensities", "frames", "hidden", "pooled", *(["vad"] if model.config.predicts_vad else [])]
    file = io.BytesIO()
    inner: Any = model.config.encoder_config
    attention = inner._attn_implementation
    # torch's fused attention comes out with a guard for rows that see nothing, which costs a twentieth of the time;
    # here a clip always sees itself.
    inner._attn_implementation = "eager"
    try:
        torch.onnx.export(
            Graph(model),
            (torch.zeros(2, long), torch.tensor([long, short])),
            file,  # type: ignore[arg-type]
            input_names=["samples", "lengths"],
            output_names=outputs,
            dynamic_axes={name: open_axes[name] for name in ("samples", "lengths", *outputs)},
            opset_version=17,
            # torch's newer exporter fixes the LSTM to the length it was shown.
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
        inner._attn_implementation = attention
    return file.getvalue()
