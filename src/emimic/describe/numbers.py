"""The numbers of the paper's section 3.2, from labels and from what was found of each clip; NumPy and SciPy only."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.describe.measure import Clip

ERROR_SECONDS: Final = 7200.0
"""Longer recordings are errors and stay out of ranges, means and sums, as in the paper; they are counted and named."""

SIGNIFICANT: Final = 0.05
"""An emotion shifts when its p, corrected by Holm for the number of emotions, is below."""

Numbers = dict[str, Any]


def of_labels(labels: Mapping[str, NDArray[np.floating[Any]]], targets: Sequence[str]) -> Numbers:
    """Split -> (clip, target), NaN where missing -> split -> target -> its clips, share of zeros, and spread."""
    return {
        split: {
            name: _of_column(column[np.isfinite(column)])
            for name, column in zip(targets, values.astype(np.float64).T, strict=True)
        }
        for split, values in labels.items()
    }


def _of_column(values: NDArray[np.float64]) -> Numbers:
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


def shifts(labels: Mapping[str, NDArray[np.floating[Any]]], targets: Sequence[str]) -> list[Numbers]:
    """For each two splits and each target: the Kolmogorov-Smirnov statistic, its p, and the difference of means.

    p is asymptotic (Kolmogorov's distribution); labels have many ties, so it errs towards no shift. `shifts` says
    whether p, corrected by Holm over the targets, is below SIGNIFICANT. The difference is the second split's mean less
    the first one's.
    """
    from scipy.special import kolmogorov

    found = []
    for one, two in combinations(labels, 2):
        rows: list[Numbers] = []
        for place, name in enumerate(targets):
            x, y = (labels[split][:, place].astype(np.float64) for split in (one, two))
            x, y = np.sort(x[np.isfinite(x)]), np.sort(y[np.isfinite(y)])
            if not len(x) or not len(y):
                continue
            at = np.concatenate([x, y])
            below = [np.searchsorted(values, at, side="right") / len(values) for values in (x, y)]
            distance = float(np.abs(below[0] - below[1]).max())
            rows.append(
                {
                    "splits": [one, two],
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
        found += rows
    return found


def of_durations(seconds: Iterable[float], cut: float) -> Numbers:
    """Lengths in seconds, at least one -> their range, and what a cut after so many seconds costs."""
    every = np.sort(np.fromiter(seconds, np.float64))
    kept = credible(every)
    whole, lost = cost_of_cuts(every, [cut])[0][0], cost_of_cuts(kept, [cut])[1][0]
    steps = np.arange(0.5, 60.5, 0.5)
    curve = zip(steps, cost_of_cuts(every, steps)[0], cost_of_cuts(kept, steps)[1], strict=True)
    return {
        "clips": len(every),
        "over_two_hours": len(every) - len(kept),
        "hours": float(kept.sum() / 3600),
        "shortest": float(kept[0]),
        "longest": float(kept[-1]),
        "mean": float(kept.mean()),
        "median": float(np.median(kept)),
        "under_1s": _part(every < 1, len(every)),
        "over_cut": _part(every > cut, len(every)),
        "cut": cut,
        "kept_whole": float(whole),
        "audio_lost": float(lost),
        "curve": [
            {"cut": float(at), "kept_whole": float(k), "audio_lost": float(gone)} for at, k, gone in curve
        ],
    }


def credible(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths (clip,) without those that are errors of recording, unless all are."""
    kept = seconds[seconds <= ERROR_SECONDS]
    return kept if len(kept) else seconds


def cost_of_cuts(
    seconds: NDArray[np.float64], cuts: Sequence[float] | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lengths (clip,), sorted, and cuts (cut,) in seconds -> share of clips kept whole, share of audio lost (cut,)."""
    at = np.asarray(cuts, np.float64)
    whole = np.searchsorted(seconds, at, side="right")
    before = np.concatenate([[0.0], np.cumsum(seconds)])
    beyond = before[-1] - before[whole] - at * (len(seconds) - whole)
    return whole / len(seconds), np.maximum(beyond, 0.0) / before[-1]


def of_rates(clips: Sequence[Clip]) -> Numbers | None:
    """Frames a second as the containers state them, rounded to 0.01, and as they are; None without a video."""
    pictures = [clip.found.picture for clip in clips if clip.found.picture and clip.found.picture.fps]
    if not pictures:
        return None
    rates = [picture.fps for picture in pictures]
    true = [picture.frames / picture.seconds for picture in pictures if picture.seconds]
    return {
        "videos": len(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "mean": float(np.mean(rates)),
        "values": _shares(f"{rate:.2f}".rstrip("0").rstrip(".") for rate in rates),
        "true_mean": float(np.mean(true)) if true else None,
        "sizes": _shares(f"{picture.width}x{picture.height}" for picture in pictures),
        "codecs": _shares(picture.codec for picture in pictures),
    }


def of_frames(clips: Sequence[Clip]) -> Numbers:
    """Frames found against those expected without gaps, and the faces among them."""
    videos = [clip for clip in clips if clip.expected]
    gaps = [
        clip for clip in videos if clip.found.picture and clip.found.picture.frames < (clip.expected or 0)
    ]
    numbers: Numbers = {
        "videos": len(videos),
        "found": sum(clip.found.picture.frames for clip in videos if clip.found.picture),
        "expected": sum(clip.expected or 0 for clip in videos),
        "with_gaps": _part(gaps, len(videos)),
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


def of_sound(clips: Sequence[Clip]) -> Numbers:
    """Formats of the sound, and what is heard in it."""
    sounds = [clip.found.sound for clip in clips if clip.found.sound]
    heard = [(clip, clip.found.heard) for clip in clips if clip.found.heard]
    total = sum(found.samples for _, found in heard)
    return {
        "tracks": len(sounds),
        "rates": _shares(str(sound.rate) for sound in sounds),
        "channels": _shares(str(sound.channels) for sound in sounds),
        "codecs": _shares(sound.codec for sound in sounds),
        "kilobits": _shares(str(round(sound.bit_rate / 1000)) for sound in sounds if sound.bit_rate),
        "heard": len(heard),
        "speech": sum(found.speech * found.samples for _, found in heard) / total if total else None,
        "silence": sum(found.silence * found.samples for _, found in heard) / total if total else None,
        "without_speech": _part([f for _, f in heard if f.speech == 0], len(heard)),
        "clipped": _names(clip for clip, found in heard if found.clipped),
        "silent": _names(clip for clip, found in heard if found.silence == 1),
    }


def _part(chosen: Sequence[Any] | NDArray[np.bool_], total: int) -> Numbers:
    """A count with its share."""
    count = int(np.count_nonzero(chosen)) if isinstance(chosen, np.ndarray) else len(chosen)
    return {"count": count, "share": count / total if total else None}


def _shares(values: Iterable[str]) -> dict[str, Numbers]:
    """Value -> how often, and its share; the most frequent first."""
    counts = Counter(values)
    ordered = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return {value: {"count": count, "share": count / counts.total()} for value, count in ordered}


def _names(clips: Iterable[Clip]) -> list[str]:
    return [f"{clip.split} {clip.id}" for clip in clips]
