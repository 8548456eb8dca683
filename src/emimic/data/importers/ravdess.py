"""RAVDESS: 24 actors, two English statements, eight emotions spoken, six sung.

Livingstone and Russo, PLoS ONE 13(5): e0196391, 2018.
"""

import re
from collections.abc import Iterator
from typing import Final

from emimic.data.importers.layout import Clip, Layout, LeftOut, Source

_NAME: Final = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])")
_EMOTIONS: Final = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
_STATEMENTS: Final = ("Kids are talking by the door", "Dogs are sitting by the door")
_AUDIO_ONLY: Final = "03"


def list_clips(source: Source) -> Iterator[Clip | LeftOut]:
    """Yield a clip per audio-only recording of speech, and of song with the option."""
    for path in source.recordings:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            yield LeftOut(path.name, "its name isn't seven numbers such as 03-01-05-02-02-01-12")
            continue
        modality, channel, emotion, intensity, statement, repetition, actor = match.groups()
        if modality != _AUDIO_ONLY:
            yield LeftOut(path.name, "video with an audio-only recording", planned=True)
        elif channel == "02" and not source.song:
            yield LeftOut(path.name, "song (--song takes it)", planned=True)
        else:
            yield Clip(
                path,
                actor,
                _EMOTIONS[int(emotion) - 1],
                columns={
                    "Gender": "male" if int(actor) % 2 else "female",
                    "Intensity": "normal" if intensity == "01" else "strong",
                    "Statement": _STATEMENTS[int(statement) - 1],
                    "Repetition": repetition,
                    "Channel": "speech" if channel == "01" else "song",
                },
            )


LAYOUT: Final = Layout(
    "ravdess", "Actor_01/03-01-05-02-02-01-12.wav and so on", (), list_clips, options=frozenset({"song"})
)
