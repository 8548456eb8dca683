"""WebVTT for video players: the three highest intensities about every second, or below each sentence's words."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from emimic.files import make_one_line, write_atomically
from emimic.inference.results import Result
from emimic.inference.steps import Steps
from emimic.output.extras import Extra
from emimic.output.formats.common import Format, import_library, list_spans

_SHOWN: Final = 3


def write(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.vtt; silent steps have no caption."""
    path = folder / f"{stem}.vtt"
    write_atomically(path, render(result))
    return [path]


def render(result: Result) -> str:
    """Return the captions as WebVTT."""
    webvtt = import_library("webvtt", "vtt")
    captions = make_captions(result.to_steps()) if result.sentences is None else caption_sentences(result)
    cues = [webvtt.Caption(_format_time(start), _format_time(end), text) for start, end, text in captions]
    content: str = webvtt.WebVTT(captions=cues).content
    return content.rstrip("\n") + "\n"


def make_captions(grid: Steps) -> list[tuple[int, int, str]]:
    """Return captions (start ms, end ms, text): each run of voiced steps in equal parts of about a second."""
    values = grid.values[:, : grid.n_targets]
    voiced = np.flatnonzero(np.isfinite(values).all(axis=1) & (grid.starts < grid.ends))
    if not len(voiced):
        return []
    captions = []
    for run in np.split(voiced, np.flatnonzero(np.diff(voiced) > 1) + 1):
        ms = grid.ends[run[-1]] - grid.starts[run[0]]
        for part in np.array_split(run, min(max(1, round(ms / 1000)), len(run))):
            text = _make_text(grid.names, values[part].mean(axis=0))
            captions.append((int(grid.starts[part[0]]), int(grid.ends[part[-1]]), text))
    return captions


def caption_sentences(result: Result) -> list[tuple[int, int, str]]:
    """Return captions (start ms, end ms, text): each sentence's words, and below them its highest intensities."""
    captions = []
    for start, end, sentence in list_spans(result):
        values = sentence.intensities.astype(np.float64)
        lines = [_escape(make_one_line(sentence.text))]
        lines += [_make_text(result.targets, values)] if np.isfinite(values).all() else []
        captions.append((start, end, "\n".join(line for line in lines if line) or "-"))
    return captions


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _make_text(names: tuple[str, ...], values: NDArray[np.float64]) -> str:
    """Return the names and values of the highest intensities."""
    highest = np.argsort(-values, kind="stable")[:_SHOWN]
    return " · ".join(f"{_escape(make_one_line(names[i]))} {max(values[i], 0.0):.2f}" for i in highest)


def _format_time(ms: int) -> str:
    """Return a time as WebVTT writes it, hours:minutes:seconds."""
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.{ms:03d}"


FORMAT: Final = Format(
    "vtt",
    "WebVTT: captions for video players",
    write,
    aliases=("webvtt", "subtitles"),
    extra=Extra("formats", "WebVTT captions", ("webvtt",)),
    render=render,
)
