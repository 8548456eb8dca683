"""MSP-Podcast: turns of podcasts with consensus ratings of arousal, valence, dominance (1 to 7) and a category.

Lotfian and Busso, IEEE Transactions on Affective Computing 10(4), 2019; Busso et al., arXiv 2509.09791.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emimic.data.importers.layout import Clip, Layout, LeftOut, Source, read_rows, to_number
from emimic.data.split_tables import get_clip_key
from emimic.task import CorpusError

TABLE: Final = Path("Labels", "labels_consensus.csv")
"""One row per turn."""
_EMOTIONS: Final = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "",  # other
    "X": "",  # no agreement
}
_RATINGS: Final = {"Arousal": "EmoAct", "Dominance": "EmoDom", "Valence": "EmoVal"}
_COLUMNS: Final = ("FileName", "EmoClass", *_RATINGS.values(), "SpkrID", "Gender", "Split_Set")
TEST_SETS: Final = ("Test1", "Test2")
"""Both have the same speakers, so a corpus folder holds one of them; the labels of Test3 are not published."""


def list_clips(source: Source) -> Iterator[Clip | LeftOut]:
    """Yield a clip per row with a recording, and a LeftOut for the other rows and recordings.

    Raises:
        CorpusError: the table is missing or damaged.
    """
    table = source.folder / TABLE
    if not table.is_file():
        raise CorpusError(f"{table} does not exist; expected {LAYOUT.expected}. Give the corpus's folder")
    splits = {"Train": "train", "Development": "valid", source.test_set: "test"}
    paths = {get_clip_key(path.name): path for path in source.recordings}
    for row in read_rows(table, _COLUMNS):
        name, split = row["FileName"], row["Split_Set"]
        path = paths.pop(get_clip_key(name), None)
        ratings = {target: to_number(row[column]) for target, column in _RATINGS.items()}
        invalid = [
            _RATINGS[key] for key, value in ratings.items() if value is not None and not 1 <= value <= 7
        ]
        if split not in splits:
            yield LeftOut(name, f"of {split or 'no split'}", planned=True)
        elif path is None:
            yield LeftOut(name, f"is in {table.name}, but no recording has this name")
        elif invalid or row["EmoClass"] not in {*_EMOTIONS, ""}:
            fault = ", ".join(f"{key} is {row[key]}" for key in invalid) or f"EmoClass is {row['EmoClass']}"
            yield LeftOut(name, f"{fault}; expected 1 to 7, and a class of {''.join(_EMOTIONS)}")
        else:
            yield Clip(
                path,
                "" if row["SpkrID"] == "Unknown" else row["SpkrID"],
                _EMOTIONS.get(row["EmoClass"], ""),
                vad={key: (value - 1) / 6 for key, value in ratings.items() if value is not None},
                columns={"Gender": row["Gender"].lower() if row["Gender"] != "Unknown" else ""},
                split=splits[split],
            )
    for path in paths.values():
        yield LeftOut(path.name, f"has no row in {table.name}")


LAYOUT: Final = Layout(
    "msp-podcast",
    f"Audios/MSP-PODCAST_0001_0008.wav and so on, and {TABLE.as_posix()}",
    ("Audios", "Audio"),
    list_clips,
    options=frozenset({"test_set"}),
    publishes_splits=True,
)
