"""EmoDB (Berlin): 10 speakers, ten German sentences, seven emotions, judged by 20 listeners.

Burkhardt et al., Interspeech 2005.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emimic.data.importers.layout import Clip, Layout, LeftOut, Source, to_number
from emimic.task import CorpusError

_NAME: Final = re.compile(r"(\d\d)([ab]\d\d)([WLEAFTN])[a-z]")
_EMOTIONS: Final = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
_GENDERS: Final = dict.fromkeys(("03", "10", "11", "12", "15"), "male") | dict.fromkeys(
    ("08", "09", "13", "14", "16"), "female"
)
RECOGNITION: Final = "erkennung.txt"
"""Percentages of the listeners who recognized a clip's emotion, and who found it natural."""


def list_clips(source: Source) -> Iterator[Clip | LeftOut]:
    """Yield a clip per recording; Joy of happiness is the fraction of listeners who recognized it."""
    table = source.folder / RECOGNITION
    recognized = _read_recognition(table) if table.is_file() else {}
    if not recognized:
        source.notes.append(
            f"no {RECOGNITION} in {source.folder}: Joy of happiness is 1, not the fraction recognized"
        )
    for path in source.recordings:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            yield LeftOut(path.name, "its name isn't speaker, text, emotion, version such as 03a01Fa")
            continue
        speaker, text, letter = match.groups()
        percent, natural = recognized.get(path.stem, (None, None))
        happy = letter == "F" and percent is not None
        yield Clip(
            path,
            speaker,
            _EMOTIONS[letter],
            joy=percent / 100 if happy and percent is not None else None,
            columns={
                "Gender": _GENDERS.get(speaker, ""),
                "Sentence": text,
                "RecognizedPercent": "" if percent is None else f"{percent:g}",
                "NaturalPercent": "" if natural is None else f"{natural:g}",
            },
        )


def _read_recognition(path: Path) -> dict[str, tuple[float | None, float | None]]:
    """Return clip -> per cent recognized, per cent natural.

    The table has tabs, decimal commas, and Latin-1 with non-breaking spaces.

    Raises:
        CorpusError: the table can't be read, or has no percentages.
    """
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="latin-1").splitlines()]
    except OSError as error:
        raise CorpusError(f"{path} can't be read ({error}); copy it again, or leave it out") from error
    rows = [[field.strip() for field in line] for line in lines if len(line) >= 4]
    table = {
        name.removesuffix(".wav"): (to_number(percent), to_number(natural))
        for _, name, percent, natural, *_ in rows
        if name.endswith(".wav")
    }
    values = [value for pair in table.values() for value in pair if value is not None]
    if not values or not 0 <= min(values) <= max(values) <= 100:
        raise CorpusError(
            f"{path}: found {len(table)} clips with per cent, expected lines such as 1, 03a01Ab.wav, 65,00, 35,00 "
            "separated by tabs. Copy it again, or leave it out"
        )
    return table


LAYOUT: Final = Layout("emodb", f"wav/03a01Fa.wav and so on, optionally {RECOGNITION}", ("wav",), list_clips)
