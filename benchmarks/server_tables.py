"""Table of the server under load and abuse."""

from statistics import median
from typing import Any

from benchmarks.results import format_machine, make_table, read_results


def make_server() -> str:
    """Make what was measured of the server, one row per part of `benchmarks.server`."""
    figures = read_results("server")
    cold, crowd, steady, speed = (figures[name] for name in ("cold", "crowd", "steady", "speed"))
    rows = [
        (
            "start to `/ready`",
            f"{cold['median']:.1f} s (median of {len(cold['seconds'])} starts), "
            f"{cold['cpu_seconds_median']:.1f} s of CPU time",
        ),
        (
            "cases of the OpenAPI document",
            _count(figures["contract"]["statuses"], figures["contract"]["failures"]),
        ),
        (
            "hostile files",
            f"{_count(figures['hostile']['statuses'])}; slowest {figures['hostile']['slowest_seconds']:.1f} s",
        ),
        (
            f"{figures['broken']['connections']} broken and slow connections",
            f"a client beside them: {_count(figures['broken']['healthy_client'])}",
        ),
        (
            f"{crowd['clients']} clients at once",
            f"at first {_count(crowd['first_statuses'])}; after retries all have a result, {crowd['wrong']} wrong",
        ),
        (f"{figures['kill']['killed']} decoders killed under load", _count(figures["kill"]["statuses"])),
        (
            f"{steady['seconds'] / 60:.0f} minutes of recordings from .3 to 60 s, in every format",
            f"{_count(steady['statuses'])}; memory {steady['server_megabytes']['last_quarter']:.0f} MB, drift "
            f"{steady['drift_percent']:+.1f} %",
        ),
        (
            "requests per second",
            f"{median(speed['requests_per_second']):.0f}; `predict_files` in one process "
            f"{median(speed['predict_files_per_second']):.0f}; ratio {speed['ratio']:.2f}",
        ),
    ]
    peaks = figures["memory"]["peak_megabytes_by_requests_at_work"]
    rows.append(
        (
            f"peak memory of {', '.join(peaks)} comparisons at once, each of two channels of 300 s",
            f"{', '.join(map(str, peaks.values()))} MB",
        )
    )
    load = max(part["load_before"] for part in figures.values() if "load_before" in part)
    one, two = peaks["1"], peaks["2"]
    need = (
        f"Each request at work, by default one per core, needs about {two - one} MB beside {2 * one - two} MB of the "
        "server; uploads that wait need `--waiting` x `--megabytes`."
    )
    machine = (
        f"{format_machine(figures['machine'])} It was busy: load {load:.0f}. Memory was measured on "
        f"{figures['memory']['cpu']}."
    )
    return f"{make_table('part | result', rows)}\n\n{need}\n\n{machine}"


def make_image() -> str:
    """Make what was measured of the image's steps in `benchmarks.image`."""
    figures = read_results("image")
    size, server = figures["megabytes"], figures["server"]
    rows = [
        ("all steps that run a command", f"{sum(figures['seconds'].values()):.0f} s"),
        ("added to `python:3.13-slim`", f"{size['all']:.0f} MB, of which the page {size['page']:.0f} MB"),
        ("start to a healthy `/ready`", f"{server['seconds_to_healthy']:.1f} s"),
    ]
    return (
        f"{make_table('part | result', rows)}\n\nThe steps were executed in a folder, without Docker "
        f"(`python -m benchmarks.image`). Machine: {figures['machine']}."
    )


def _count(statuses: dict[str, int], failures: dict[str, Any] | None = None) -> str:
    """Return numbers of statuses as text."""
    text = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    return (
        text if failures is None else f"{sum(statuses.values())}: {text}; {len(failures)} not as documented"
    )
