"""Corpora for tests, made in a folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emimic.data.corpus import load_corpus
from emimic.task import EMOTIONS, CorpusError

HEADER = ",".join(["Filename", *EMOTIONS])


def row(name: str, *labels: object, speaker: str | None = None) -> str:
    values = labels or (0, 0.5, 0, 0, 1, 0.25)
    return ",".join(map(str, [name, *values, *([] if speaker is None else [speaker])]))


def wav(path: Path, seconds: float = 0.1) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.full(round(seconds * 16_000), 0.1, np.float32), 16_000)


def make(folder: Path, header: str = HEADER, clips: bool = True, **tables: list[str]) -> Path:
    """A corpus with the given rows a split (train 1, valid 2 where not given) and a clip for each row."""
    for name, rows in ({"train": [row("1")], "valid": [row("2")]} | tables).items():
        (folder / f"{name}_split.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        for line in rows if clips else ():
            wav(folder / "audio" / f"{line.split(',')[0]}.wav")
    return folder


def refused(folder: Path, *message: str, **arguments: Any) -> None:
    with pytest.raises(CorpusError) as caught:
        load_corpus(folder, **arguments)
    for text in message:
        assert text in str(caught.value)
