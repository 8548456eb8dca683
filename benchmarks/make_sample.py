"""Cut the sample corpus that ships with emimic from EmoGator (Apache-2.0).

    python -m benchmarks.make_sample SOURCE src/emimic/sample [--speech EMODB]

SOURCE holds `clips.csv` (Filename, Speaker, Category, Take, Split), `audio/<Filename>.mp3` and `LICENSE`.
Twenty speakers of its training split are taken, one take of each of seven categories: 140 clips, 1.2 MB.
The same SOURCE always gives the same bytes. EMODB holds `labels.csv` (Filename, Speaker, Gender, TextCode, Emotion,
RecognisedPercent) and `audio/` of EmoDB (CC0-1.0): four of its sentences are put in `speech/`, which is otherwise left
as it is.
"""

import argparse
import csv
import hashlib
import shutil
import textwrap
from pathlib import Path

import numpy as np

from emimic.media import decode

EMOTIONS = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")
# The intended category of a burst -> the paper's target. This mapping is emimic's own.
CAST = {
    "Adoration": "Admiration",
    "Amusement": "Amusement",
    "Triumph": "Determination",
    "Sympathy": "Empathic Pain",
    "Ecstasy": "Excitement",
    "Elation": "Joy",
    "Neutral": None,
}
SPEAKERS = {"train": 12, "valid": 4, "test": 4}
# Bytes of a 32 kb/s mp3: from about a second (no slips of the microphone) to eight seconds.
SMALLEST, LARGEST = 4_500, 32_000
# The one sentence that fits whole into the source's two seconds and of which a man and a woman each have a happy and an
# angry take recognized by all listeners; of three such women, the one whose takes sound more natural to them.
SPEECH = {
    "man-happy": "03a04Fd",
    "man-angry": "03a04Wc",
    "woman-happy": "16a04Fa",
    "woman-angry": "16a04Wc",
}
# What an mp3 makes of digital zeros stays below SILENCE; PADDING samples (10 ms) of it are no accident.
SILENCE, PADDING = 1e-4, 160
GERMAN, ENGLISH = "Heute Abend könnte ich es ihm sagen.", "Tonight I could tell him."

README = """\
# The sample corpus

{clips} vocal bursts of {speakers} people in the layout of the ABAW challenge, so that every verb of
emimic can be tried on real voices: `train_split.csv` ({train}), `valid_split.csv` ({valid}),
`test_split.csv` ({test}; with its labels, unlike the challenge), `audio/00001.mp3` ... The three splits
share no speaker. Each speaker gives one take of each of seven categories.

**What the labels are.** 1 for the category the speaker was asked to express, 0 for the other five:
*intended* categories, not perceived intensities; nobody rated these clips. They are cast onto the
paper's six targets by a mapping of emimic's own: {cast}. Figures reached on this sample say that the
programme works, nothing about mimicry.

**Source and license.** EmoGator, github.com/fredbuhl/EmoGator, F. Buhl, arXiv 2301.00508; Apache-2.0,
see `LICENSE` beside this file.

**What was changed.** A selection was made ({speakers} contributors, one take a category, none under
about a second); the recordings had been re-encoded to 16 kHz mono mp3 at 32 kb/s and are copied from
there bit for bit; files were renumbered (`sources.csv` maps each to its original name,
contributor-category-take); the intended categories were cast onto the six targets.

## Four sentences

`speech/` isn't part of the corpus: one German sentence ("{german}" - {english}), spoken
happily and angrily by an actor and an actress. `make demo` predicts hers. `speech/sources.csv` names the speaker
and how many of 20 listeners, in per cent, recognized the emotion.

**Source and license.** EmoDB, CC0-1.0 as stated by audeering in github.com/audeering/emodb. Cite: F. Burkhardt,
A. Paeschke, M. Rolfes, W. F. Sendlmeier, B. Weiss, "A database of German emotional speech", Interspeech 2005,
doi:10.21437/Interspeech.2005-446. The audio is from github.com/sylaschacko/voice-emotion-analysis (commit 4b0f64c),
which states no license of its own.

**What was changed.** That repository had cut or padded the recordings to two seconds; they had then been
re-encoded to 16 kHz mono mp3 at 64 kb/s and are copied from there bit for bit, but for the two that ended in
padding: it was cut off, and they are FLAC. Files were renamed.

Rebuilt by `benchmarks/make_sample.py`.
"""


def speakers_in(rows: list[dict[str, str]], audio: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Speaker -> category -> its first take of a sensible size; only speakers who have all seven."""
    figures: dict[str, dict[str, dict[str, str]]] = {}
    for row in sorted(rows, key=lambda row: row["Filename"]):
        # Only training speakers: the source's validation speakers stay unseen by anyone who uses the sample.
        if row["Split"] != "train" or row["Category"] not in CAST:
            continue
        if SMALLEST <= (audio / f"{row['Filename']}.mp3").stat().st_size <= LARGEST:
            figures.setdefault(row["Speaker"], {}).setdefault(row["Category"], row)
    return {speaker: takes for speaker, takes in figures.items() if len(takes) == len(CAST)}


def write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def speech(source: Path, dest: Path) -> None:
    """Write the sentences and their table; padding at an end is cut off without another lossy encoding."""
    with (source / "labels.csv").open(newline="", encoding="utf-8") as handle:
        labels = {Path(row["Filename"]).stem: row for row in csv.DictReader(handle)}
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir()
    rows = []
    for name, code in SPEECH.items():
        original, row = source / "audio" / f"{code}.mp3", labels[code]
        samples = decode.load(original)
        end = int(np.flatnonzero(np.abs(samples) >= SILENCE)[-1]) + 1
        if len(samples) - end < PADDING:
            file = dest / f"{name}.mp3"
            shutil.copyfile(original, file)
        else:
            file = dest / f"{name}.flac"
            decode.save(file, samples[:end], codec="flac")
        about = [row[column] for column in ("Speaker", "Gender", "TextCode")]
        rows.append([file.name, code, *about, GERMAN, ENGLISH, row["Emotion"], row["RecognisedPercent"]])
    header = ["File", "Source", "Speaker", "Sex", "Sentence", "German", "English", "Emotion", "Recognized"]
    write(dest / "sources.csv", header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--speech", type=Path)
    args = parser.parse_args()
    with (args.source / "clips.csv").open(newline="", encoding="utf-8") as handle:
        takes = speakers_in(list(csv.DictReader(handle)), args.source / "audio")
    # A hash's order draws from the whole collection and needs no random generator.
    order = iter(sorted(takes, key=lambda speaker: hashlib.sha256(speaker.encode()).hexdigest()))

    shutil.rmtree(args.dest / "audio", ignore_errors=True)
    (args.dest / "audio").mkdir(parents=True)
    sources: list[list[str]] = []
    sizes: dict[str, str] = {}
    for split, n in SPEAKERS.items():
        rows = []
        for speaker in [next(order) for _ in range(n)]:
            for category, target in CAST.items():
                row, stem = takes[speaker][category], f"{len(sources) + 1:05d}"
                original = args.source / "audio" / f"{row['Filename']}.mp3"
                shutil.copyfile(original, args.dest / "audio" / f"{stem}.mp3")
                rows.append([stem, *("1.0" if e == target else "0.0" for e in EMOTIONS), speaker])
                sources.append([stem, row["Filename"], category, split])
        write(args.dest / f"{split}_split.csv", ["Filename", *EMOTIONS, "Speaker"], rows)
        sizes[split] = f"{len(rows)} clips, {n} speakers"
    write(args.dest / "sources.csv", ["Filename", "Source", "Category", "Split"], sources)
    shutil.copyfile(args.source / "LICENSE", args.dest / "LICENSE")
    cast = ", ".join(f"{target or 'all zero'} <- {category}" for category, target in CAST.items())
    text = README.format(
        clips=len(sources),
        speakers=sum(SPEAKERS.values()),
        cast=cast,
        **sizes,
        german=GERMAN,
        english=ENGLISH,
    )
    paragraphs = [textwrap.fill(p, 100, break_on_hyphens=False) for p in text.split("\n\n")]
    (args.dest / "README.md").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    if args.speech:
        speech(args.speech, args.dest / "speech")
    size = sum(path.stat().st_size for path in (args.dest / "audio").iterdir())
    print(f"{len(sources)} clips, {size:,} bytes of audio in {args.dest}")


if __name__ == "__main__":
    main()
