"""The HTML report of a study: tables and plots in one file, which fetches nothing."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from emimic.mimicry.measures import NAMES
from emimic.mimicry.results import MEANING
from emimic.mimicry.study.results import (
    BY_NAME,
    Study,
    Voices,
    describe_contrast,
    describe_sessions,
    format_value,
    list_groups,
)
from emimic.mimicry.windows import WindowGrid
from emimic.version import __version__
from emimic.wording import pluralize

_TEXTS: Final = ("Group", "Groups", "Leads", "Measure", "Session", "Unit")
"""Columns of words, aligned on the left; the others have numbers."""

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; color: #111;
 background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; margin: .8rem 0; } caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { border-bottom: 1px solid #ccc; padding: .2rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }
th.text, td.text { text-align: left; } tr.beyond td { font-weight: 700; }
img { max-width: 100%; height: auto; display: block; margin: .6rem 0; } .note { color: #444; }
details { margin: .4rem 0; } .scroll { overflow-x: auto; }
"""


def make_page(study: Study, plots: Mapping[str, bytes], notice: str) -> str:
    """Return the report.

    Args:
        study: The results.
        plots: PNGs by name: `lags N` and `distribution N` of dyad N, `network`, and `N ID` of its session's heat map.
        notice: The legal notice, shown at the end.
    """
    parts = [f"<h1>Mimicry in {len(study.sessions)} sessions</h1>", f"<p>{html.escape(MEANING)}</p>"]
    parts += [f'<p class="note">{html.escape(note)}</p>' for note in study.notes]
    if study.failed:
        reasons = "".join(
            f"<li><strong>{html.escape(failed.id)}</strong>: {html.escape(failed.reason)}</li>"
            for failed in study.failed
        )
        parts.append(f"<p>{pluralize(len(study.failed), 'session')} left out:</p><ul>{reasons}</ul>")
    if "network" in plots:
        parts += [
            "<h2>Network</h2>",
            _embed(plots["network"], "The mean similarity of every pair of roles, by group"),
        ]
    for number, voices in enumerate(study.voices):
        parts += _render_voices(study, voices, number, plots)
    parts.append(_render_warnings(study))
    parts.append(_render_method(study))
    parts.append(f"<footer><p class='note'>{html.escape(notice)}</p></footer>")
    csp = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{csp}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="emimic {html.escape(__version__)}">'
        f"<title>Mimicry study</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _render_voices(study: Study, voices: Voices, number: int, plots: Mapping[str, bytes]) -> list[str]:
    """Return the section of a pair of roles, or of more voices."""
    parts = [f"<h2>{html.escape(voices.name)}</h2>"]
    for key, words in (
        (f"lags {number}", "Mean correlation at each lag: the sessions, and pseudo-dyads"),
        (f"distribution {number}", "Similarity of each session among that of pseudo-dyads"),
    ):
        if key in plots:
            parts.append(_embed(plots[key], words))
    parts += [
        _render_groups(study, voices),
        _render_contrasts(study, voices),
        _render_sessions(study, voices),
    ]
    maps = [
        f"<h3>{html.escape(name)}</h3>"
        + _embed(plots[f"{number} {name}"], f"Correlation of each window at each lag, {name}")
        for name in voices.sessions
        if f"{number} {name}" in plots
    ]
    if maps:
        parts.append(f"<details><summary>Heat maps, lag by time</summary>{''.join(maps)}</details>")
    return parts


def _render_groups(study: Study, voices: Voices) -> str:
    rows = []
    for group, name, fields in list_groups(voices):
        values = [fields[key][-1] for key in ("mean", "low", "high", "pseudo_mean", "d", "p")]
        texts = [
            group or "all sessions",
            name,
            BY_NAME[name].unit,
            int(fields["sessions"][-1]),
            *(format_value(value) for value in values),
        ]
        rows.append((texts, fields["p"][-1] <= 1 - study.settings.level))
    header = ("Group", "Measure", "Unit", "Sessions", "Mean", "95 % from", "to", "Pseudo-dyads", "d", "p")
    return _make_table(
        f"Groups: the mean over dimensions; bold: p at most {1 - study.settings.level:.2g}", header, rows
    )


def _render_contrasts(study: Study, voices: Voices) -> str:
    rows = [
        (
            [
                f"{first or '-'} minus {second or '-'}",
                name,
                BY_NAME[name].unit,
                *(format_value(fields[key][-1]) for key in ("difference", "difference_z", "d", "p")),
            ],
            fields["p"][-1] <= 1 - study.settings.level,
        )
        for (first, second), tests in voices.contrasts.items()
        for name in tests
        for fields in [describe_contrast(voices, (first, second), name)]
    ]
    header = ("Groups", "Measure", "Unit", "Difference", "Difference in z", "d", "p")
    caption = "Groups against each other: differences of the means above pseudo-dyads, by permutation of the sessions"
    return _make_table(caption, header, rows) if rows else ""


def _render_sessions(study: Study, voices: Voices) -> str:
    main = NAMES[0] if voices.dyads is not None else "rho"
    fields = describe_sessions(voices, main)
    rows = []
    for row, name in enumerate(voices.sessions):
        texts = [
            name,
            voices.groups[row] or "-",
            *(format_value(fields[key][row, -1]) for key in ("value", "pseudo_mean", "es", "p")),
        ]
        if voices.dyads is not None:
            leader = voices.find_leader(row, study.settings.level, study.hop)
            texts += [format_value(voices.dyads.lags[row, -1], "+.1f"), leader or "-"]
        rows.append((texts, fields["p"][row, -1] <= 1 - study.settings.level))
    main = "Similarity (r)" if voices.dyads is not None else "Rho"
    header = ["Session", "Group", main, "Pseudo-dyads", "Effect size", "p"]
    header += ["Lag (s)", "Leads"] if voices.dyads is not None else []
    return _make_table("Sessions against pseudo-dyads: the mean over dimensions", header, rows)


def _render_warnings(study: Study) -> str:
    notes = [
        f"<li>{html.escape(f'{session.id}: {note}')}</li>"
        for session in study.sessions
        for note in session.notes
    ]
    none = "None but those at the top." if study.notes else "None."
    return "<h2>Warnings</h2>" + (f"<ul>{''.join(notes)}</ul>" if notes else f"<p>{none}</p>")


def _render_method(study: Study) -> str:
    settings = study.settings
    grid = WindowGrid.from_settings(settings, study.hop)
    width, every, reach = (f"{steps * study.hop:g} s" for steps in (grid.width, grid.hop, grid.reach))
    measures = "".join(
        f"<tr><td class='text'>{name}</td><td class='text'>{measure.unit}</td>"
        f"<td class='text'>{html.escape(measure.meaning)}</td></tr>"
        for name, measure in BY_NAME.items()
    )
    return (
        f"<h2>Method</h2><p>Windows of {width}, every {every}, lags up to {reach}, {settings.draws} permutations, "
        f"coupling {settings.coupling}. p and intervals are not corrected for the number of measures; "
        "single dimensions, in the CSV files, are corrected for their number. Values, means and differences have their "
        "measure's unit: r, a correlation; z, Fisher's z; or a fraction. Effect sizes, d and p of correlations are "
        f"those of Fisher's z. docs/mimicry.md has formulas and sources.</p><table>{measures}</table>"
    )


def _make_table(caption: str, header: Sequence[str], rows: Iterable[tuple[Sequence[Any], Any]]) -> str:
    kinds = [" class='text'" if name in _TEXTS else "" for name in header]
    head = "".join(
        f"<th scope='col'{kind}>{html.escape(name)}</th>" for name, kind in zip(header, kinds, strict=True)
    )
    body = "".join(
        ("<tr class='beyond'>" if is_beyond else "<tr>")
        + "".join(f"<td{kind}>{html.escape(str(text))}</td>" for text, kind in zip(texts, kinds, strict=True))
        + "</tr>"
        for texts, is_beyond in rows
    )
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _embed(image: bytes, words: str) -> str:
    return f'<img alt="{html.escape(words)}" src="data:image/png;base64,{base64.b64encode(image).decode()}">'
