"""One picture of a recording: waveform, intensities so far, VAD. Readable in grey and by colour-blind people."""

import io
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from emimic.service.predict import Answer
from emimic.task import SAMPLE_RATE, VAD

# Okabe and Ito's colours; with the dashes and widths each line is told apart without any colour too.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_DASHES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (2, 1)))


def recording(answer: Answer, targets: tuple[str, ...], samples: NDArray[np.float32]) -> bytes:
    """A PNG of one answer; samples (sample,) at 16 kHz are what the waveform shows."""
    one = answer.prediction
    panels = 2 + (one.vad is not None)
    figure = Figure(figsize=(10, 2.2 * panels + 1.2), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, height_ratios=[1, 2.2, 2][:panels])
    end = max(float(one.times[-1]) + 0.02, 0.1)
    shown = samples[: int(end * SAMPLE_RATE)]
    axes[0].fill_between(*_envelope(shown), color="0.45", linewidth=0)
    axes[0].set(ylabel="waveform", yticks=[], title=answer.path.name)
    _lines(axes[1], one.times, one.running, targets, "intensity so far")
    if one.vad is not None:
        _lines(axes[2], one.times, one.vad, VAD, "VAD")
    axes[-1].set(xlabel="seconds", xlim=(0.0, end))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


def _envelope(
    samples: NDArray[np.float32], points: int = 1500
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Times, lowest and highest sample of each of at most `points` stretches."""
    stretch = max(1, len(samples) // points)
    parts = samples[: len(samples) // stretch * stretch].reshape(-1, stretch)
    times = (np.arange(len(parts)) + 0.5) * stretch / SAMPLE_RATE
    return times, parts.min(axis=1), parts.max(axis=1)


def _lines(axis: Any, times: NDArray[Any], values: Any, names: tuple[str, ...], label: str) -> None:
    """A line a name; the legend stands outside, ordered as the lines end, each with its last value."""
    for i in sorted(range(len(names)), key=lambda i: -values[-1, i]):
        style = {
            "color": _COLOURS[i % len(_COLOURS)],
            "linestyle": _DASHES[i % len(_DASHES)],
            "linewidth": 1.8,
        }
        # One frame has no length to draw a line along.
        style |= {"marker": "o"} if len(times) == 1 else {}
        axis.plot(times, values[:, i], label=f"{names[i]} {values[-1, i]:.2f}", **style)
    axis.set_ylabel(label)
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, handlelength=4)
