"""Table of timelines in one pass beside exact ones."""

from typing import Any, Final

from benchmarks.results import format_interval, make_table, read_results

WAYS: Final = {"exact": "exact", "file": "one pass, of a file", "stream": "one pass, of a stream"}
SOUNDS: Final = {"bursts": "bursts of held-out speakers", "speech": "acted speech (TAVA)"}


def make_one_pass() -> str:
    """Make each way's Pearson with the labels of joined clips, its agreement with exact, and its speed."""
    results = read_results("one_pass")
    rows = []
    for sound, label in SOUNDS.items():
        for way, name in WAYS.items():
            figures = results["scores"][sound][way]
            rows.append(
                (label, name, format_interval(figures["pearson"]["mean"]), *_format_agreement(figures))
            )
    header = "joined clips | timeline | mean Pearson with the labels [95 %] | difference from exact [95 %]"
    header += " | r with exact | rms from exact"
    speed = results["speed"]
    ratio, stream = speed["ratio"], speed["stream"]
    parts = ", ".join(f"{part} {value:.1f}" for part, value in speed.get("cpu_ms_per_second", {}).items())
    parts = f"CPU ms per second of sound, on one thread: {parts}. " if parts else ""
    return (
        f"{make_table(header, rows)}\n\n"
        f"{speed['seconds'] / 60:.0f} minutes of speech on two cores: {speed['times_real_time']:.0f} x real time, "
        f"exact {speed['exact_times_real_time']:.0f} x; ratio {ratio['median']:.1f} ({ratio['minimum']:.1f} to "
        f"{ratio['maximum']:.1f}, {ratio['repeats']} pairs in turn). A stream takes "
        f"{stream['cpu_s_per_second'] * 1000:.0f} ms of CPU per second of sound; a step came at most "
        f"{stream['latency_s']:.2f} s after its time ({stream['stated_latency_s']:.2f} are stated). {parts}"
        f"{_format_lengths(results)}"
        f"Machine: {speed['machine']}."
    )


def _format_lengths(results: dict[str, Any]) -> str:
    """Return the cost of a second of sound by the length of the recording, beside that of ten minutes."""
    if "lengths" not in results:
        return ""
    costs = []
    for name, label in (("wall_ms_per_second", "time"), ("cpu_ms_per_second", "CPU time")):
        cost = dict(results["lengths"][name])
        base = cost.pop("10")
        shown = ", ".join(f"{value / base:.2f} ({minutes})" for minutes, value in cost.items())
        costs.append(f"{label} {shown}")
    return f"A second of sound beside one of 10 minutes, by minutes: {'; '.join(costs)}. "


def _format_agreement(figures: dict[str, Any]) -> tuple[str, str, str]:
    """Return the difference from exact in Pearson, and the ranges of r and rms over targets and V/A/D."""
    if "agreement" not in figures:
        return "", "", ""
    less = figures["less_exact"]
    r, rms = ([one[key] for one in figures["agreement"].values()] for key in ("pearson", "rms"))
    difference = f"{less['value']:+.3f} [{less['low']:+.3f}, {less['high']:+.3f}]"
    return difference, f"{min(r):.2f} to {max(r):.2f}", f"{min(rms):.2f} to {max(rms):.2f}"
