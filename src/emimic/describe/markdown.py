"""A description as Markdown: its numbers, with the paper's beside them where the paper has one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

PAPER: Final = "paper (Hume-Vidmimic2)"
_MANY: Final = 50  # names in a list: a damaged corpus may have thousands, which are in the CSV
_RATES: Final = 12
_CUTS: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60)
_USUAL: Final = ("25", "30", "60", "1000")  # fps that the paper expected, and the clock of recorders
_ROW = tuple[str, ...]


def beside_the_paper(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(quantity, this corpus, the paper's value of section 3.2): "-" where there is none."""
    clips, lengths, audio = (numbers[key] for key in ("clips", "durations", "audio"))
    zeros = {
        split: [column["zero"] for column in columns.values() if column["clips"]]
        for split, columns in numbers["labels"].items()
    }
    shifted = [row for row in numbers["shifts"] if row["splits"] == ["train", "valid"] and row["shifts"]]
    shifted.sort(key=lambda row: -row["ks"])
    at_12 = lengths["cut"] == 12
    rows = [
        (
            "clips listed, " + ", ".join(clips),
            ", ".join(str(p["listed"]) for p in clips.values()),
            "8072, 4588, 4586",
        ),
        (
            "length, " + ", ".join(clips),
            ", ".join(_h(p["hours"]) for p in clips.values()),
            "about 15 h, 9 h, 9 h",
        ),
        ("speakers", str(numbers["speakers"] or "-"), "557"),
        ("zero labels, train", _range(zeros.get("train")), "55.3 % to 89.9 %"),
        ("zero labels, valid", _range(zeros.get("valid")), "34.1 % to 52.4 %"),
        (
            "shift from train to valid, most first",
            ", ".join(row["target"] for row in shifted) or ("none" if len(zeros) > 1 else "-"),
            "mainly Determination, Joy",
        ),
        (
            "shortest to longest",
            f"{_s(lengths['shortest'])} to {_s(lengths['longest'])}",
            "0.1 s to 1249.9 s",
        ),
        ("longer than two hours (left out of range, mean, loss)", str(lengths["over_two_hours"]), "1"),
        ("mean duration", _s(lengths["mean"]), "6.93 s"),
        ("under 1 s", _counted(lengths["under_1s"]), "533 (3.1 %)"),
        (f"over {lengths['cut']:g} s", _counted(lengths["over_cut"]), "753 (4.4 %)" if at_12 else "-"),
        (f"kept whole at {lengths['cut']:g} s", _percent(lengths["kept_whole"]), "95.6 %" if at_12 else "-"),
        (f"audio lost at {lengths['cut']:g} s", _percent(lengths["audio_lost"]), "1.4 %" if at_12 else "-"),
    ]
    return [
        *rows,
        *_video_beside_the_paper(numbers),
        ("channels", _top(audio["channels"]), "1"),
        ("sample rate, Hz", _top(audio["rates"]), "16000"),
        ("bit rate, kb/s", _top(audio["kilobits"]), "64"),
        ("speech, share of the audio", _percent(audio["speech"]), "-"),
        ("clips without speech", _counted(audio["without_speech"]), "-"),
        ("clipped, silent clips", f"{len(audio['clipped'])}, {len(audio['silent'])}", "-"),
    ]


def _video_beside_the_paper(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    published = {
        "fps": "25 to 1000", "mean fps": "226", "at 30 fps": "62.6 %", "at 1000 fps": "20.1 %",
        "exotic fps": "29.83, 62.5, ...", "faces of clip 11437, of frames expected": "42 of 196, 6.42 a second",
        "faces of clip 15709, of frames expected": "5.84 a second",
    }  # fmt: skip
    own = {}
    if (fps := numbers["fps"]) is not None:
        value = fps["values"]
        share = {rate: value[rate]["share"] if rate in value else 0.0 for rate in ("30", "1000")}
        own = {
            "fps": f"{fps['lowest']:.4g} to {fps['highest']:.4g}",
            "mean fps": f"{fps['mean']:.1f}",
            "at 30 fps": _percent(share["30"]),
            "at 1000 fps": _percent(share["1000"]),
            "exotic fps": ", ".join([rate for rate in value if rate not in _USUAL][:4]),
        }
    for name, one in numbers["papers_clips"].items():
        told = f"{one['faces']} of {one['expected'] or 'unknown'}, {one['faces_fps']:.2f} a second"
        own[f"faces of clip {name}, of frames expected"] = told
    return [(quantity, own.get(quantity) or "-", paper) for quantity, paper in published.items()]


def markdown(numbers: Mapping[str, Any], figures: Sequence[str], journal: str) -> str:
    """The whole report; `figures` are names of pictures that lie beside it."""
    parts = [
        f"# Description of {numbers['folder']}",
        f"Section 3.2 of the paper, for this corpus. The column *{PAPER}* is what the paper published of its own "
        "corpus, which is another one unless this is Hume-Vidmimic2. `description.json` has all numbers, `clips.csv` "
        f"what was found of each clip; `{journal}` lets another run go on from here.",
        _table(("", "this corpus", PAPER), beside_the_paper(numbers)),
        *_labels(numbers, figures),
        *_durations(numbers),
        *_video(numbers),
        *_audio(numbers),
        *_listed("Damaged or missing media", [f"{d['split']} {d['clip']}: {d['reason']}" for d in numbers["damaged"]]),
        *_listed("Warnings", numbers["warnings"]),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _labels(numbers: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    if not numbers["labels"]:
        return []
    rows = [
        (split, name, str(column["clips"]), *(_statistics(column) if column["clips"] else ("-",) * 5))
        for split, columns in numbers["labels"].items()
        for name, column in columns.items()
    ]
    head = ("split", "target", "clips", "zero", "mean", "standard deviation", "quartiles", "highest")
    parts = ["## Labels", _table(head, rows)]
    if "labels" in figures:
        parts.append("![Box plots of the labels, a panel a split](labels.png)")
    if numbers["shifts"]:
        parts += [
            "Shifts between splits: the two-sample Kolmogorov-Smirnov statistic (largest distance of the two "
            "distribution functions), its asymptotic p corrected by Holm over the targets, and the difference of the "
            "means. Clips of one speaker resemble each other, so p is too small where speakers have many clips: "
            "compare the statistics.",
            _table(
                ("splits", "target", "KS", "p (Holm)", "difference of means", "shifts"),
                [
                    (
                        " to ".join(row["splits"]), row["target"], f"{row['ks']:.3f}", f"{row['p_holm']:.2g}",
                        f"{row['difference']:+.3f}", "yes" if row["shifts"] else "no",
                    )
                    for row in sorted(numbers["shifts"], key=lambda row: (row["splits"], -row["ks"]))
                ],
            ),
        ]  # fmt: skip
    return parts


def _statistics(column: Mapping[str, Any]) -> _ROW:
    quartiles = ", ".join(f"{value:.3g}" for value in column["quartiles"])
    return (
        _percent(column["zero"]), f"{column['mean']:.3f}", f"{column['standard_deviation']:.3f}", quartiles,
        f"{column['highest']:.3g}",
    )  # fmt: skip


def _durations(numbers: Mapping[str, Any]) -> list[str]:
    lengths = numbers["durations"]
    rows = [
        (f"{step['cut']:g}", _percent(step["kept_whole"]), _percent(step["audio_lost"]))
        for step in lengths["curve"]
        if step["cut"] in _CUTS
    ]
    return [
        "## Durations",
        f"Of {lengths['clips']} clips whose sound (or else picture) could be read, by decoding: "
        f"{_h(lengths['hours'])}, median {_s(lengths['median'])}. What other cuts would cost:",
        _table(("cut in s", "clips kept whole", "audio lost"), rows),
        "![Histograms of durations and fps](durations.png)",
        "![Cost of each cut](cuts.png)",
        *_listed("Longer than two hours", numbers["over_two_hours"], level=3),
    ]


def _video(numbers: Mapping[str, Any]) -> list[str]:
    fps, frames = numbers["fps"], numbers["frames"]
    faces = frames["faces"]
    parts = ["## Video"]
    if fps is None:
        parts.append("There are no videos.")
    else:
        rows = [(value, _counted(share)) for value, share in fps["values"].items()]
        more = [("others", _counted(_rest(fps["values"], _RATES)))] if len(rows) > _RATES else []
        true = (
            "" if fps["true_mean"] is None else f"; frames that are there, a second: {fps['true_mean']:.1f}"
        )
        parts += [
            f"Frames a second as the containers state them, {fps['videos']} videos, mean {fps['mean']:.1f}{true}.",
            _table(("fps", "videos"), [*rows[:_RATES], *more]),
            f"Frames found: {frames['found']} of {frames['expected']} expected without gaps; "
            f"{_counted(frames['with_gaps'])} of the videos have fewer than expected.",
            f"Sizes: {_top(fps['sizes'])}. Codecs: {_top(fps['codecs'])}.",
        ]
    if faces is not None:
        rate = faces["fps"]
        spread = (
            f", a second {rate['lowest']:.2f} to {rate['highest']:.2f}, mean {rate['mean']:.2f}"
            if rate
            else ""
        )
        parts.append(
            f"Faces: {faces['clips']} clips, {faces['without']} of them without any{spread}; {faces['found']} of the "
            f"{faces['expected']} frames expected where there is a video."
        )  # fmt: skip
    return parts


def _audio(numbers: Mapping[str, Any]) -> list[str]:
    audio = numbers["audio"]
    return [
        "## Audio",
        _table(
            ("of the tracks", "values"),
            [
                (name, _top(audio[key], 8))
                for name, key in (
                    ("sample rate, Hz", "rates"), ("channels", "channels"), ("codec", "codecs"),
                    ("bit rate, kb/s (of the packets)", "kilobits"),
                )
            ],
        ),
        f"Speech (silero-vad) is {_percent(audio['speech'])} of the sound, and silence (below -60 dB) "
        f"{_percent(audio['silence'])}; {_counted(audio['without_speech'])} clips are without speech.",
        *_listed("Clipped", audio["clipped"], level=3),
        *_listed("Silent", audio["silent"], level=3),
    ]  # fmt: skip


def _table(head: _ROW, rows: Sequence[_ROW]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def _listed(title: str, entries: Sequence[str], level: int = 2) -> list[str]:
    if not entries:
        return []
    more = len(entries) - _MANY
    lines = [f"- {entry}" for entry in entries[:_MANY]] + [f"- and {more} more"] * (more > 0)
    return [f"{'#' * level} {title} ({len(entries)})", "\n".join(lines)]


def _range(shares: Sequence[float] | None) -> str:
    return f"{_percent(min(shares))} to {_percent(max(shares))}" if shares else "-"


def _top(shares: Mapping[str, Any], limit: int = 3) -> str:
    """The most frequent values with their shares."""
    named = [f"{value} ({_percent(share['share'])})" for value, share in list(shares.items())[:limit]]
    return ", ".join(named + ["..."] * (len(shares) > limit)) or "-"


def _rest(shares: Mapping[str, Any], limit: int) -> dict[str, Any]:
    others = list(shares.values())[limit:]
    return {key: sum(other[key] for other in others) for key in ("count", "share")}


def _counted(part: Mapping[str, Any]) -> str:
    return f"{part['count']} ({_percent(part['share'])})" if part["share"] is not None else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _s(seconds: float) -> str:
    """Seconds with at least two digits that mean something."""
    digits = 2 if seconds >= 0.1 else 1 - math.floor(math.log10(seconds))
    return f"{seconds:.{digits}f} s"


def _h(hours: float) -> str:
    """Hours, or minutes where there is less than one."""
    return f"{hours:.2f} h" if hours >= 1 else f"{60 * hours:.3g} min"
