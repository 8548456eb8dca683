"""A Markdown report of a corpus: its numbers, with the paper's beside them where the paper has one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

PAPER: Final = "paper (Hume-Vidmimic2)"
_MANY: Final = 50  # maximum of names in a list: a damaged corpus may have thousands, which are in the CSV
_RATES: Final = 12
_CUTS: Final = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60)
_USUAL: Final = (
    "25",
    "30",
    "60",
    "1000",
)  # frame rates that the paper expects, and recorders' millisecond timestamps
_ROW = tuple[str, ...]


def compare_with_paper(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (quantity, this corpus, the paper's value of section 3.1 or 3.2); "-" where there is none."""
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
            ", ".join(_format_hours(p["hours"]) for p in clips.values()),
            "about 15 h, 9 h, 9 h",
        ),
        ("speakers", str(numbers["speakers"] or "-"), "557"),
        ("zero labels, train", _format_range(zeros.get("train")), "55.3 % to 89.9 %"),
        ("zero labels, valid", _format_range(zeros.get("valid")), "34.1 % to 52.4 %"),
        (
            "shift from train to valid, most first",
            ", ".join(row["target"] for row in shifted) or ("none" if len(zeros) > 1 else "-"),
            "mainly Determination, Joy",
        ),
        (
            "shortest to longest",
            f"{_format_seconds(lengths['shortest'])} to {_format_seconds(lengths['longest'])}",
            "0.1 s to 1249.9 s",
        ),
        ("longer than two hours (left out of range, mean, loss)", str(lengths["over_two_hours"]), "1"),
        ("mean duration", _format_seconds(lengths["mean"]), "6.93 s"),
        ("under 1 s", _format_count(lengths["under_1s"]), "533 (3.1 %)"),
        (f"over {lengths['cut']:g} s", _format_count(lengths["over_cut"]), "753 (4.4 %)" if at_12 else "-"),
        (
            f"kept whole at {lengths['cut']:g} s",
            _format_percent(lengths["kept_whole"]),
            "95.6 %" if at_12 else "-",
        ),
        (
            f"audio lost at {lengths['cut']:g} s",
            _format_percent(lengths["audio_lost"]),
            "1.4 %" if at_12 else "-",
        ),
    ]
    return [
        *rows,
        *_compare_video(numbers),
        ("channels", _format_top(audio["channels"]), "1"),
        ("sample rate, Hz", _format_top(audio["rates"]), "16000"),
        ("bit rate, kb/s", _format_top(audio["kilobits"]), "64"),
        ("speech, fraction of the audio", _format_percent(audio["speech"]), "-"),
        ("clips without speech", _format_count(audio["without_speech"]), "-"),
        ("clipped, silent clips", f"{len(audio['clipped'])}, {len(audio['silent'])}", "-"),
    ]


def _compare_video(numbers: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    published = {
        "fps": "25 to 1000", "mean fps": "226", "at 30 fps": "62.6 %", "at 1000 fps": "20.1 %",
        "exotic fps": "29.83, 62.5, ...", "faces of clip 11437, of frames expected": "42 of 196, 6.42 a second",
        "faces of clip 15709, of frames expected": "5.84 a second",
    }  # fmt: skip
    measured = {}
    if (fps := numbers["fps"]) is not None:
        value = fps["values"]
        fraction = {rate: value[rate]["fraction"] if rate in value else 0.0 for rate in ("30", "1000")}
        measured = {
            "fps": f"{fps['lowest']:.4g} to {fps['highest']:.4g}",
            "mean fps": f"{fps['mean']:.1f}",
            "at 30 fps": _format_percent(fraction["30"]),
            "at 1000 fps": _format_percent(fraction["1000"]),
            "exotic fps": ", ".join([rate for rate in value if rate not in _USUAL][:4]),
        }
    for name, clip in numbers["papers_clips"].items():
        faces = f"{clip['faces']} of {clip['expected'] or 'unknown'}, {clip['faces_fps']:.2f} a second"
        measured[f"faces of clip {name}, of frames expected"] = faces
    return [(quantity, measured.get(quantity) or "-", paper) for quantity, paper in published.items()]


def render(numbers: Mapping[str, Any], figures: Sequence[str], journal: str) -> str:
    """Return the report.

    Args:
        numbers: the content of `description.json`.
        figures: the names of the plots in the same folder.
        journal: the file name of the stored measurements.
    """
    damaged = [f"{entry['split']} {entry['clip']}: {entry['reason']}" for entry in numbers["damaged"]]
    parts = [
        f"# Description of {numbers['folder']}",
        f"Sections 3.1 (clips, speakers, shifts) and 3.2 of the paper, for this corpus. The column *{PAPER}* has the "
        "published values of the paper's corpus, which is another one unless this is Hume-Vidmimic2; rows with - "
        "are not in the paper. `description.json` has all numbers, and "
        f"`clips.csv` the measurements of each clip; `{journal}` stores them for another run.",
        _format_table(("", "this corpus", PAPER), compare_with_paper(numbers)),
        *_render_labels(numbers, figures),
        *_render_durations(numbers),
        *_render_video(numbers),
        *_render_audio(numbers),
        *_format_list("Damaged or missing media", damaged),
        *_format_list("Warnings", numbers["warnings"]),
    ]
    return "\n\n".join(parts) + "\n"


def _render_labels(numbers: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    if not numbers["labels"]:
        return []
    rows = [
        (split, name, str(column["clips"]), *(_format_statistics(column) if column["clips"] else ("-",) * 5))
        for split, columns in numbers["labels"].items()
        for name, column in columns.items()
    ]
    head = ("split", "target", "clips", "zero", "mean", "standard deviation", "quartiles", "highest")
    parts = ["## Labels", _format_table(head, rows)]
    if "labels" in figures:
        parts.append("![Box plots of the labels, a panel for each split](labels.png)")
    if numbers["shifts"]:
        parts += [
            "Shifts between splits: the two-sample Kolmogorov-Smirnov statistic (largest distance of the two "
            "distribution functions), its asymptotic p corrected by Holm over the targets, and the difference of the "
            "means. Clips of one speaker resemble each other, so p is too small where speakers have many clips: "
            "compare the statistics.",
            _format_table(
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


def _format_statistics(column: Mapping[str, Any]) -> _ROW:
    quartiles = ", ".join(f"{value:.3g}" for value in column["quartiles"])
    return (
        _format_percent(column["zero"]), f"{column['mean']:.3f}", f"{column['standard_deviation']:.3f}", quartiles,
        f"{column['highest']:.3g}",
    )  # fmt: skip


def _render_durations(numbers: Mapping[str, Any]) -> list[str]:
    lengths = numbers["durations"]
    rows = [
        (f"{step['cut']:g}", _format_percent(step["kept_whole"]), _format_percent(step["audio_lost"]))
        for step in lengths["cuts"]
        if step["cut"] in _CUTS
    ]
    return [
        "## Durations",
        f"Of {lengths['clips']} clips whose audio (or else video) could be read, by decoding: "
        f"{_format_hours(lengths['hours'])}, median {_format_seconds(lengths['median'])}. Cost of other cuts:",
        _format_table(("cut in s", "clips kept whole", "audio lost"), rows),
        "![Histograms of durations and fps](durations.png)",
        "![Cost of each cut](cuts.png)",
        *_format_list("Longer than two hours", numbers["over_two_hours"], level=3),
    ]


def _render_video(numbers: Mapping[str, Any]) -> list[str]:
    fps, frames = numbers["fps"], numbers["frames"]
    faces = frames["faces"]
    parts = ["## Video"]
    if fps is None:
        parts.append("There are no videos.")
    else:
        rows = [(value, _format_count(count)) for value, count in fps["values"].items()]
        more = [("others", _format_count(_sum_rest(fps["values"], _RATES)))] if len(rows) > _RATES else []
        measured = "" if fps["true_mean"] is None else f"; measured: {fps['true_mean']:.1f}"
        parts += [
            f"Frames per second by the containers, {fps['videos']} videos, mean {fps['mean']:.1f}{measured}.",
            _format_table(("fps", "videos"), [*rows[:_RATES], *more]),
            f"Frames found: {frames['found']} of {frames['expected']} expected without gaps; "
            f"{_format_count(frames['with_gaps'])} of the videos have fewer than expected.",
            f"Sizes: {_format_top(fps['sizes'])}. Codecs: {_format_top(fps['codecs'])}.",
        ]
    if faces is not None:
        rate = faces["fps"]
        rates = (
            f", per second {rate['lowest']:.2f} to {rate['highest']:.2f}, mean {rate['mean']:.2f}"
            if rate
            else ""
        )
        parts.append(
            f"Faces: {faces['clips']} clips, {faces['without']} of them without any{rates}; {faces['found']} of the "
            f"{faces['expected']} frames expected where there is a video."
        )  # fmt: skip
    return parts


def _render_audio(numbers: Mapping[str, Any]) -> list[str]:
    audio = numbers["audio"]
    return [
        "## Audio",
        _format_table(
            ("of the tracks", "values"),
            [
                (name, _format_top(audio[key], 8))
                for name, key in (
                    ("sample rate, Hz", "rates"), ("channels", "channels"), ("codec", "codecs"),
                    ("bit rate, kb/s (of the packets)", "kilobits"),
                )
            ],
        ),
        f"Speech (silero-vad) is {_format_percent(audio['speech'])} of the sound, and silence (below -60 dB) "
        f"{_format_percent(audio['silence'])}; {_format_count(audio['without_speech'])} clips are without speech.",
        *_format_list("Clipped", audio["clipped"], level=3),
        *_format_list("Silent", audio["silent"], level=3),
    ]  # fmt: skip


def _format_table(head: _ROW, rows: Sequence[_ROW]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in lines)


def _format_list(title: str, entries: Sequence[str], level: int = 2) -> list[str]:
    if not entries:
        return []
    more = len(entries) - _MANY
    lines = [f"- {entry}" for entry in entries[:_MANY]] + [f"- and {more} more"] * (more > 0)
    return [f"{'#' * level} {title} ({len(entries)})", "\n".join(lines)]


def _format_range(fractions: Sequence[float] | None) -> str:
    return f"{_format_percent(min(fractions))} to {_format_percent(max(fractions))}" if fractions else "-"


def _format_top(counts: Mapping[str, Any], limit: int = 3) -> str:
    """Return the most frequent values with their fractions."""
    values = [
        f"{value} ({_format_percent(count['fraction'])})" for value, count in list(counts.items())[:limit]
    ]
    return ", ".join(values + ["..."] * (len(counts) > limit)) or "-"


def _sum_rest(counts: Mapping[str, Any], limit: int) -> dict[str, Any]:
    others = list(counts.values())[limit:]
    return {key: sum(other[key] for other in others) for key in ("count", "fraction")}


def _format_count(count: Mapping[str, Any]) -> str:
    return (
        f"{count['count']} ({_format_percent(count['fraction'])})" if count["fraction"] is not None else "-"
    )


def _format_percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def _format_seconds(seconds: float) -> str:
    """Return seconds with at least two significant digits."""
    digits = 2 if seconds >= 0.1 else 1 - math.floor(math.log10(seconds))
    return f"{seconds:.{digits}f} s"


def _format_hours(hours: float) -> str:
    """Return hours, or minutes for less than an hour."""
    return f"{hours:.2f} h" if hours >= 1 else f"{60 * hours:.3g} min"
