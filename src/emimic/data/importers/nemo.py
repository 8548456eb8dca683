"""nEMO: nine Polish actors, 90 sentences, six emotions.

Christop, LREC-COLING 2024.
"""

import re
from collections.abc import Iterator
from typing import Final

from emimic.data.importers.layout import Clip, Layout, LeftOut, Source, read_rows

_NAME: Final = re.compile(r"([A-Z]{2}\d)_(anger|fear|happiness|neutral|sadness|surprised)_(\d+)")
TABLE: Final = "data.tsv"
"""Transcripts, gender and age of every recording."""


def list_clips(source: Source) -> Iterator[Clip | LeftOut]:
    """Yield a clip per recording, with gender, age and text from the table."""
    table = source.folder / TABLE
    rows: dict[str, dict[str, str]] = {}
    if table.is_file():
        columns = ("file_id", "raw_text", "gender", "age")
        rows = {row["file_id"].removesuffix(".wav"): row for row in read_rows(table, columns, delimiter="\t")}
    else:
        source.notes.append(f"no {TABLE} in {source.folder}: gender, age and text are unknown")
    for path in source.recordings:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            yield LeftOut(path.name, "its name isn't SPEAKER_EMOTION_SENTENCE such as EB0_anger_1")
            continue
        speaker, emotion, sentence = match.groups()
        row = rows.get(path.stem, {})
        yield Clip(
            path,
            speaker,
            "surprise" if emotion == "surprised" else emotion,
            columns={
                "Gender": row.get("gender", ""),
                "Age": row.get("age", ""),
                "Sentence": sentence,
                "Text": row.get("raw_text", ""),
            },
        )


LAYOUT: Final = Layout("nemo", f"samples/EB0_anger_1.wav and so on, beside {TABLE}", ("samples",), list_clips)
