"""Small HTML of numbers and lines, for notebooks."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def render_table(caption: str, rows: Iterable[str]) -> str:
    """Return a table of rows, each the HTML inside a `<tr>`, below a caption."""
    lines = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<table style="text-align:left"><caption style="text-align:left">{caption}</caption>{lines}</table>'
    )


def render_bar(value: float) -> str:
    """Return a number and its bar from 0 to 1, drawn by styles alone: no script, no image, no external resource."""
    if not math.isfinite(value):
        return "&ndash;"
    width = 100 * min(max(value, 0.0), 1.0)
    fill = f'<span style="display:block;height:100%;width:{width:.0f}%;background:#0072B2"></span>'
    return (
        f'{value:.2f} <span style="display:inline-block;vertical-align:middle;width:6em;height:.7em;background:#ddd">'
        f"{fill}</span>"
    )


def render_line(values: NDArray[np.float32], points: int = 300) -> str:
    """Return values (step,) from 0 to 1 as an SVG line of at most `points` points; silence interrupts it."""
    parts = np.array_split(values, min(points, max(1, len(values))))
    means = [float(np.nanmean(part)) if np.isfinite(part).any() else math.nan for part in parts]
    path, pen = [], "M"
    for x, mean in enumerate(means):
        if math.isfinite(mean):
            path.append(f"{pen}{x} {30 - 28 * min(max(mean, 0.0), 1.0):.1f}h1")
        pen = "L" if math.isfinite(mean) else "M"
    return (
        f'<svg viewBox="0 0 {len(means)} 32" width="300" height="32" preserveAspectRatio="none">'
        f'<path d="{"".join(path)}" fill="none" stroke="#0072B2" stroke-width="1.5" '
        f'vector-effect="non-scaling-stroke"/></svg>'
    )
