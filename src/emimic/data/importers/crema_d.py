"""CREMA-D: 91 actors, twelve English sentences, six emotions; listeners to the voice alone voted for one, with a level.

Cao et al., IEEE Transactions on Affective Computing 5(4), 2014.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emimic.data.importers.layout import Clip, Layout, LeftOut, Source, read_rows, to_number

_NAME: Final = re.compile(r"(\d{4})_([A-Z]{3})_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)")
_EMOTIONS: Final = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
_LEVELS: Final = {"LO": "low", "MD": "medium", "HI": "high"}
ACTORS: Final = "VideoDemographics.csv"
"""Sex and age of each actor."""
VOTES: Final = (
    "processedResults/tabulatedVotes.csv",
    "finishedResponses.csv",
    "processedResults/summaryTable.csv",
)
"""Tables with votes on the voice alone, the best first: counts, single votes, only the most frequent vote."""


def list_clips(source: Source) -> Iterator[Clip | LeftOut]:
    """Yield a clip per recording: Joy is the fraction of votes for happy times their mean level, whatever was acted."""
    joys = _read_joys(source)
    actors: dict[str, dict[str, str]] = {}
    if (table := source.folder / ACTORS).is_file():
        actors = {row["ActorID"]: row for row in read_rows(table, ("ActorID", "Sex", "Age"))}
    else:
        source.notes.append(f"no {ACTORS} in {source.folder}: gender and age are unknown")
    n_without = 0
    for path in source.recordings:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            yield LeftOut(path.name, "its name isn't actor, sentence, emotion, level such as 1001_DFA_ANG_XX")
            continue
        speaker, sentence, emotion, level = match.groups()
        actor = actors.get(speaker, {})
        joy = joys.get(_get_key(path.stem))
        n_without += joy is None
        yield Clip(
            path,
            speaker,
            _EMOTIONS[emotion],
            joy=joy,
            columns={
                "Gender": actor.get("Sex", "").lower(),
                "Age": actor.get("Age", ""),
                "Sentence": sentence,
                "Intensity": _LEVELS.get(level, ""),
            },
        )
    if joys and n_without:
        source.notes.append(f"{n_without} clips have no votes: their Joy is 1 for happiness, else as masked")


def _get_key(name: str) -> str:
    """Return a clip's name as in the tables; one recording ends in _X in older copies."""
    stem = name.partition(".")[0]
    return stem + "X" if stem.endswith("_X") else stem


def _read_joys(source: Source) -> dict[str, float]:
    """Return clip -> perceived joy in [0, 1], from the best table that exists."""
    readers = dict(zip(VOTES, (_read_counts, _read_responses, _read_majority), strict=True))
    for name, read in readers.items():
        if (path := source.folder / name).is_file():
            if read is _read_majority:
                source.notes.append(
                    f"found only {name}: Joy is the level of happy where most voted for it, else 0"
                )
            return read(path)
    source.notes.append(
        f"none of {', '.join(VOTES)} in {source.folder}: Joy of happiness is 1, not what listeners perceived"
    )
    return {}


def _read_counts(path: Path) -> dict[str, float]:
    """Return clip -> joy of counted votes.

    Rows 100001 to 107442 are votes on the voice; a mean level (0 to 100) is -1 without votes.
    """
    joys = {}
    for row in read_rows(path, ("", "fileName", "H", "numResponses", "meanHappyResp")):
        index, votes, total = to_number(row[""]), to_number(row["H"]), to_number(row["numResponses"])
        level = to_number(row["meanHappyResp"])
        if (
            index is not None
            and 100_000 < index < 200_000
            and votes is not None
            and total
            and level is not None
        ):
            joys[_get_key(row["fileName"])] = _clip(votes / total * level / 100) if votes else 0.0
    return joys


def _read_responses(path: Path) -> dict[str, float]:
    """Return clip -> joy of single votes, one per row; query type 1 is the voice."""
    levels: defaultdict[str, list[float]] = defaultdict(list)
    for row in read_rows(path, ("queryType", "clipName", "respEmo", "respLevel")):
        level = to_number(row["respLevel"])
        if row["queryType"] == "1" and level is not None:
            levels[_get_key(row["clipName"])].append(level if row["respEmo"] == "H" else 0.0)
    return {clip: _clip(sum(values) / len(values) / 100) for clip, values in levels.items()}


def _read_majority(path: Path) -> dict[str, float]:
    """Return clip -> joy of the most frequent vote and its mean level; ties are joined by colons."""
    joys = {}
    for row in read_rows(path, ("FileName", "VoiceVote", "VoiceLevel")):
        votes, levels = row["VoiceVote"].split(":"), row["VoiceLevel"].split(":")
        level = dict(zip(votes, levels, strict=False)).get("H", "0")
        joys[_get_key(row["FileName"])] = _clip((to_number(level) or 0.0) / 100 / len(votes))
    return joys


def _clip(value: float) -> float:
    """Return a value limited to [0, 1]."""
    return min(1.0, max(0.0, value))


LAYOUT: Final = Layout(
    "crema-d",
    f"AudioWAV/1001_DFA_ANG_XX.wav and so on, {ACTORS}, and votes in {VOTES[0]}",
    ("AudioWAV", "AudioMP3"),
    list_clips,
)
