"""The numbers of the paper's section 3.2, from labels and measurements of clips; NumPy and SciPy only."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.describe.measure import Clip

ERROR_SECONDS: Final = 7200.0
"""Longer recordings are errors and excluded from ranges, means and sums, as in the paper; they are listed."""

SIGNIFICANT: Final = 0.05
"""The p, corrected by Holm for the number of emotions, below which an emotion shifts."""

Numbers = dict[str, Any]


def summarize_labels(labels: Mapping[str, NDArray[np.floating[Any]]], targets: Sequence[str]) -> Numbers:
    """Return split -> target -> number of clips, fraction of zeros, mean, standard deviation and quantiles.

    Args:
        labels: split -> (clip, target), NaN where missing.
        targets: the target's names.
    """
    return {
        split: {
            name: _summarize_column(column[np.isfinite(column)])
            for name, column in zip(targets, values.astype(np.float64).T, strict=True)
        }
        for split, values in labels.items()
    }


def _summarize_column(values: NDArray[np.float64]) -> Numbers:
    if not len(values):
        return {"clips": 0}
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {
        "clips": len(values),
        "zero": float(np.mean(values == 0)),
        "mean": float(values.mean()),
        "standard_deviation": float(values.std()),
        "quartiles": [float(low), float(middle), float(high)],
        "highest": float(values.max()),
    }


def compare_splits(labels: Mapping[str, NDArray[np.floating[Any]]], targets: Sequence[str]) -> list[Numbers]:
    """Return the shift of each target between each pair of splits.

    It has the Kolmogorov-Smirnov statistic, its asymptotic p (Kolmogorov's distribution), and the difference of the
    second split's mean from the first one's. Labels have many ties, so p is conservative. `shifts` is True where p,
    corrected by Holm over the targets, is below SIGNIFICANT.

    Args:
        labels: split -> (clip, target), NaN where missing.
        targets: the target's names.
    """
    from scipy.special import kolmogorov

    comparisons = []
    for first, second in combinations(labels, 2):
        rows: list[Numbers] = []
        for i, name in enumerate(targets):
            x, y = (labels[split][:, i].astype(np.float64) for split in (first, second))
            x, y = np.sort(x[np.isfinite(x)]), np.sort(y[np.isfinite(y)])
            if not len(x) or not len(y):
                continue
            both = np.concatenate([x, y])
            below = [np.searchsorted(values, both, side="right") / len(values) for values in (x, y)]
            distance = float(np.abs(below[0] - below[1]).max())
            rows.append(
                {
                    "splits": [first, second],
                    "target": name,
                    "ks": distance,
                    "p": float(kolmogorov(distance * math.sqrt(len(x) * len(y) / (len(x) + len(y))))),
                    "difference": float(y.mean() - x.mean()),
                }
            )
        corrected = 0.0
        for rank, row in enumerate(sorted(rows, key=lambda row: row["p"])):
            corrected = max(corrected, min(1.0, (len(rows) - rank) * row["p"]))
            row |= {"p_holm": corrected, "shifts": corrected < SIGNIFICANT}
        comparisons += rows
    return comparisons


def summarize_durations(seconds: Iterable[float], cut: float) -> Numbers:
    """Return the range of at least one duration in seconds, and the cost of cuts in seconds."""
    lengths = np.sort(np.fromiter(seconds, np.float64))
    credible = drop_errors(lengths)
    uncut, lost = compute_cost(lengths, [cut])[0][0], compute_cost(credible, [cut])[1][0]
    cuts = np.arange(0.5, 60.5, 0.5)
    costs = zip(cuts, compute_cost(lengths, cuts)[0], compute_cost(credible, cuts)[1], strict=True)
    return {
        "clips": len(lengths),
        "over_two_hours": len(lengths) - len(credible),
        "hours": float(credible.sum() / 3600),
        "shortest": float(credible[0]),
        "longest": float(credible[-1]),
        "mean": float(credible.mean()),
        "median": float(np.median(credible)),
        "under_1s": _count(lengths < 1, len(lengths)),
        "over_cut": _count(lengths > cut, len(lengths)),
        "cut": cut,
        "kept_whole": float(uncut),
        "audio_lost": float(lost),
        "cuts": [
            {"cut": float(seconds), "kept_whole": float(uncut), "audio_lost": float(lost)}
            for seconds, uncut, lost in costs
        ],
    }


def drop_errors(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths (clip,) without errors of recording, unless all are errors."""
    credible = seconds[seconds <= ERROR_SECONDS]
    return credible if len(credible) else seconds


def compute_cost(
    seconds: NDArray[np.float64], cuts: Sequence[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the fraction of clips that are kept whole, and the fraction of audio that is lost, for each cut.

    Args:
        seconds: sorted lengths (clip,).
        cuts: (cut,) in seconds.
    """
    at = np.asarray(cuts, np.float64)
    uncut = np.searchsorted(seconds, at, side="right")
    before = np.concatenate([[0.0], np.cumsum(seconds)])
    lost = before[-1] - before[uncut] - at * (len(seconds) - uncut)
    return uncut / len(seconds), np.maximum(lost, 0.0) / before[-1]


def summarize_rates(clips: Sequence[Clip]) -> Numbers | None:
    """Return frame rates as the containers state them, rounded to 0.01, and as measured; None without a video."""
    videos = [clip.measured.video for clip in clips if clip.measured.video and clip.measured.video.fps]
    if not videos:
        return None
    rates = [video.fps for video in videos]
    measured = [video.frames / video.seconds for video in videos if video.seconds]
    return {
        "videos": len(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "mean": float(np.mean(rates)),
        "values": _count_values(f"{rate:.2f}".rstrip("0").rstrip(".") for rate in rates),
        "true_mean": float(np.mean(measured)) if measured else None,
        "sizes": _count_values(f"{video.width}x{video.height}" for video in videos),
        "codecs": _count_values(video.codec for video in videos),
    }


def summarize_frames(clips: Sequence[Clip]) -> Numbers:
    """Return the number of frames and of those expected without gaps, and of the faces among them."""
    videos = [clip for clip in clips if clip.expected]
    frames = [clip.measured.video.frames if clip.measured.video else 0 for clip in videos]
    expected = [clip.expected or 0 for clip in videos]
    numbers: Numbers = {
        "videos": len(videos),
        "found": sum(frames),
        "expected": sum(expected),
        "with_gaps": _count(np.array(frames) < np.array(expected), len(videos)),
    }
    if not any(clip.faces is not None for clip in clips):
        return numbers | {"faces": None}
    rates = [clip.faces_fps for clip in clips if clip.faces and clip.faces_fps]
    both = [clip for clip in videos if clip.faces is not None]
    return numbers | {
        "faces": {
            "clips": sum(clip.faces is not None for clip in clips),
            "without": sum(clip.faces == 0 for clip in clips),
            "found": sum(clip.faces or 0 for clip in both),
            "expected": sum(clip.expected or 0 for clip in both),
            "fps": {"lowest": min(rates), "highest": max(rates), "mean": float(np.mean(rates))}
            if rates
            else None,
        }
    }


def summarize_audio(clips: Sequence[Clip]) -> Numbers:
    """Return the formats of the audio, and its speech, silence and clipping."""
    sounds = [clip.measured.sound for clip in clips if clip.measured.sound]
    decoded = [(clip, clip.measured.waveform) for clip in clips if clip.measured.waveform]
    waveforms = [waveform for _, waveform in decoded]
    total = sum(waveform.samples for waveform in waveforms)
    speech = sum(waveform.speech * waveform.samples for waveform in waveforms)
    silence = sum(waveform.silence * waveform.samples for waveform in waveforms)
    return {
        "tracks": len(sounds),
        "rates": _count_values(str(sound.rate) for sound in sounds),
        "channels": _count_values(str(sound.channels) for sound in sounds),
        "codecs": _count_values(sound.codec for sound in sounds),
        "kilobits": _count_values(str(round(sound.bit_rate / 1000)) for sound in sounds if sound.bit_rate),
        "decoded": len(decoded),
        "speech": speech / total if total else None,
        "silence": silence / total if total else None,
        "without_speech": _count(np.array([waveform.speech == 0 for waveform in waveforms]), len(decoded)),
        "clipped": _list_names(clip for clip, waveform in decoded if waveform.clipped),
        "silent": _list_names(clip for clip, waveform in decoded if waveform.silence == 1),
    }


def _count(mask: NDArray[np.bool_], total: int) -> Numbers:
    """Return the number of True values, and their fraction of `total`."""
    count = int(np.count_nonzero(mask))
    return {"count": count, "fraction": count / total if total else None}


def _count_values(values: Iterable[str]) -> dict[str, Numbers]:
    """Return value -> its count and fraction, the most frequent first."""
    counts = Counter(values)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return {value: {"count": count, "fraction": count / counts.total()} for value, count in ordered}


def _list_names(clips: Iterable[Clip]) -> list[str]:
    return [f"{clip.split} {clip.id}" for clip in clips]
