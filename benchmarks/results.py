"""The measurements in docs/results, and Markdown tables of them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "docs" / "results"


def read_results(name: str) -> dict[str, Any]:
    """Return the content of docs/results/NAME.json."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return results


def format_interval(score: dict[str, float]) -> str:
    """Format a score and its 95 % interval, as "0.576 [0.541, 0.612]"."""
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


def format_machine(machine: dict[str, Any]) -> str:
    """Format the machine and the versions that a measurement was made with."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"Machine: {machine['cores']} cores, {machine['cpu']}; {versions}."


def make_table(header: str, rows: Iterable[Sequence[object]]) -> str:
    """Make a Markdown table. header: the columns' names, " | " between them."""
    lines = [f"| {header} |", "|---" * (header.count(" | ") + 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])
