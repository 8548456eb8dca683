"""A corpus made on the spot, of the paper's shape, gives back what it was made of; its numbers by other formulas."""

import csv
import io
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import media_files
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from json_schema import json_lines, keeps
from scipy import stats
from synth_video import video
from typer.testing import CliRunner

import emimic.sample
from emimic import cli
from emimic.data.corpus import load_corpus
from emimic.describe import markdown, measure
from emimic.describe import numbers as statistics
from emimic.describe.report import Description, describe
from emimic.evaluation import plots
from emimic.figures import render
from emimic.files import lock
from emimic.media import decode, silero_vad
from emimic.task import EMOTIONS, CorpusError, EmimicError

LABELS = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0])


@dataclass(frozen=True)
class Plan:
    """A clip of the synthetic corpus: what its files are made of, and what is therefore to be found."""

    id: str
    split: str
    labels: tuple[float, ...] | None = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    sound: np.ndarray[Any, Any] | None = None
    suffix: str | None = "flac"  # in audio/; None: in raw/ alone
    fps: Fraction | None = None
    frames: int = 0
    faces: int | None = None


def noise(samples: int) -> np.ndarray[Any, Any]:
    return media_files.noise(samples / 16_000, seed=samples)


CLIPPED = np.tile(
    np.repeat(np.array([1.0, -1.0], np.float32), 50), 160
)  # a square wave of 1 s, all at full scale
PEAKS = noise(8000)
PEAKS[[100, 200, 201, 300, 301, 302]] = 1.0  # runs of one and two are peaks, the run of three is clipped

PLAN = (
    Plan("11437", "train", (0, 0, 0, 0.5, 1, 0), noise(104_640), "mp3", Fraction(30), 196, 42),
    Plan("2", "train", (1 / 3, 0, 0, 0, 0, 0), noise(8000), "mp3", Fraction(25), 13, 3),
    Plan("00003", "train", (0, 1, 0, 0, 0, 0.25), noise(192_000), fps=Fraction(30), frames=360),  # 12 s, not over
    Plan("4", "train", (0, 0, 1, 0, 0, 0), noise(200_001), fps=Fraction(2983, 100), frames=373, faces=0),
    Plan("5", "train", (0, 0, 0, 0, 0.5, 0), np.zeros(32_000, np.float32), fps=Fraction(125, 2), frames=125),
    Plan("6", "train", (0, 0, 0, 0, 0, 1), CLIPPED),
    Plan("7", "train", (0.5, 0, 0, 0, 0, 0), noise(15_984), None, Fraction(1000), 500),
    Plan("8", "train", (0, 0.5, 0, 0, 0, 0), None, None, Fraction(30), 45),  # a video without sound
    Plan("21", "valid", (0, 0, 1, 0, 0, 0.75), PEAKS, fps=Fraction(30), frames=15),
    Plan("22", "valid", (0, 0, 0.5, 0, 0.5, 1), noise(500_000), "mp3"),
    Plan("23", "valid", (0, 1 / 3, 0.25, 0, 0, 0.5), noise(160_000)),
    Plan("31", "test", None, noise(64_000), fps=Fraction(1000), frames=4000, faces=24),
    Plan("32", "test", None, noise(1024)),
)  # fmt: skip
DAMAGED = {
    # clip of train: (its file, what is said of it)
    "91": ("audio/91.mp3", "is no audio or video that can be"),
    "92": ("audio/92.flac", "damaged or cut short"),
    "93": ("raw/93.mp4", "is no audio or video that can be read"),
    "94": ("raw/94.avi", "of the 300 frames it promises are there"),
    "95": (None, "no file of that name"),
}
SECONDS = {p.id: len(p.sound) / 16_000 if p.sound is not None else float(p.frames / (p.fps or 1)) for p in PLAN} | {
    # Of damaged clips what can be read; of the third and fourth the sound is whole.
    "93": 1.0,
    "94": 1.0,
}  # fmt: skip


def write(folder: Path, plan: Sequence[Plan] = PLAN, *, damaged: bool = True) -> Path:
    for name in ("audio", "raw"):
        (folder / name).mkdir(parents=True)
    rows: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for p in plan:
        rows[p.split].append(",".join(map(str, [p.id, *(p.labels or ())])))
        stem = p.id.zfill(5)
        if p.sound is not None and p.suffix is not None:
            path = folder / "audio" / f"{stem}.{p.suffix}"
            decode.save(path, p.sound, codec="mp3" if p.suffix == "mp3" else "flac")
        if p.fps is not None:
            inside = p.sound if p.suffix is None else None
            (folder / "raw" / f"{stem}.mov").write_bytes(video(p.fps, p.frames, "mov", sound=inside))
        if p.faces is not None:
            (folder / "face_images" / stem).mkdir(parents=True)
            for number in range(p.faces):
                (folder / "face_images" / stem / f"{number:05d}.jpg").touch()
    if damaged:
        rows["train"] += [f"{name},0,0,0,0,0,0" for name in DAMAGED] + ["3,1,1,1,1,1,1"]  # 00003 again
        damage(folder)
    for name, lines in rows.items():
        if not lines:
            continue
        header = ",".join(["Filename", *(() if name == "test" else EMOTIONS)])
        (folder / f"{name}_split.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def damage(folder: Path) -> None:
    (folder / "audio" / "91.mp3").write_bytes(b"no sound" * 200)
    whole = media_files.encode(noise(80_000), "flac")
    (folder / "audio" / "92.flac").write_bytes(whole[: len(whole) // 2])
    for name, form, content in (("93", "mp4", video(30, 60)), ("94", "avi", video(30, 300, "avi"))):
        decode.save(folder / "audio" / f"{name}.flac", noise(16_000), codec="flac")
        (folder / "raw" / f"{name}.{form}").write_bytes(content[: len(content) // 2])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="module")
def actual(corpus: Path) -> Description:
    return describe(corpus, progress=False)


@pytest.fixture(scope="module")
def numbers(actual: Description) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (actual.out / "description.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=refuse)
    assert read == actual.numbers
    keeps("describe/description_schema.json", read)
    keeps("describe/facts_schema.json", *json_lines(actual.out / "facts.jsonl"))
    return read


@pytest.fixture(scope="module")
def rows(actual: Description) -> dict[str, dict[str, str]]:
    with (actual.out / "clips.csv").open(newline="", encoding="utf-8") as file:
        every = list(csv.DictReader(file))
    assert [row["Filename"] for row in every].count("3") == 1
    return {row["Filename"]: row for row in every}


def cut_short(rows: dict[str, dict[str, str]]) -> float:
    """Seconds of the damaged flac that could be decoded."""
    seconds = int(rows["92"]["samples"]) / 16_000
    assert 1 < seconds < 4.9
    return seconds


def test_every_clips_own_facts(rows: dict[str, dict[str, str]]) -> None:
    for plan in PLAN:
        row = rows[plan.id]
        assert row["Split"] == plan.split
        assert float(row["seconds"]) == SECONDS[plan.id]  # to the sample
        assert row["samples"] == ("" if plan.sound is None else str(len(plan.sound)))
        assert row["troubles"] == "" or plan.id == "8"
        if plan.fps is None:
            assert row["video"] == row["fps"] == row["frames"] == row["frames_expected"] == ""
        else:
            assert row["video"] == f"raw/{plan.id.zfill(5)}.mov"
            assert float(row["fps"]) == float(plan.fps)
            assert (int(row["frames"]), int(row["frames_expected"])) == (plan.frames, plan.frames)
            assert float(row["video_seconds"]) == float(plan.frames / plan.fps)
            assert (row["width"], row["height"], row["video_codec"]) == ("48", "32", "mpeg4")
        assert row["faces"] == str(plan.faces or 0)
        assert float(row["faces_fps"]) == pytest.approx((plan.faces or 0) / SECONDS[plan.id], rel=1e-12)
        if plan.sound is not None:
            assert (row["rate"], row["channels"]) == ("16000", "1")
            assert row["codec"] == {"mp3": "mp3", "flac": "flac", None: "pcm_s16le"}[plan.suffix]
        if plan.suffix == "mp3":
            assert row["bit_rate"] == "64000"
    assert (rows["6"]["clipped"], rows["21"]["clipped"], rows["5"]["clipped"]) == ("16000", "3", "0")
    assert float(rows["6"]["peak"]) == pytest.approx(1.0, abs=2**-15)
    assert (float(rows["5"]["silence"]), float(rows["23"]["silence"])) == (1.0, 0.0)


def test_splits_and_labels(numbers: Any, rows: dict[str, dict[str, str]]) -> None:
    assert {name: part["listed"] for name, part in numbers["clips"].items()} == {
        "train": 14,
        "valid": 3,
        "test": 2,
    }
    assert {name: part["with_file"] for name, part in numbers["clips"].items()} == {
        "train": 12,
        "valid": 3,
        "test": 2,
    }
    assert {name: part["readable"] for name, part in numbers["clips"].items()} == {
        "train": 11,
        "valid": 3,
        "test": 2,
    }
    hours = sum(SECONDS[p.id] for p in PLAN if p.split == "train") + 2.0 + cut_short(rows)
    assert numbers["clips"]["train"]["hours"] == pytest.approx(hours / 3600, rel=1e-12)
    assert set(numbers["labels"]) == {"train", "valid"}
    for split, extra in (("train", 4), ("valid", 0)):  # four damaged clips have a file and labels of zero
        for index, name in enumerate(EMOTIONS):
            column = [p.labels[index] for p in PLAN if p.split == split and p.labels] + [0.0] * extra
            facts = numbers["labels"][split][name]
            assert facts["clips"] == len(column)
            assert facts["zero"] == column.count(0) / len(column)
            assert facts["mean"] == pytest.approx(sum(column) / len(column), abs=1e-7)
            assert facts["highest"] == pytest.approx(max(column), abs=1e-7)


def test_durations(numbers: Any, rows: dict[str, dict[str, str]]) -> None:
    every = [*SECONDS.values(), cut_short(rows)]
    facts = numbers["durations"]
    assert facts["clips"] == len(every) == 16
    assert (facts["shortest"], facts["longest"]) == (0.064, 31.25)
    assert facts["mean"] == pytest.approx(sum(every) / len(every), rel=1e-12)
    assert facts["under_1s"] == {"count": 4, "fraction": 0.25}  # 2, 7, 21, 32
    assert facts["over_cut"] == {"count": 2, "fraction": 0.125}  # 4, 22; 00003 has 12 s
    assert facts["kept_whole"] == 14 / 16
    lost = sum(max(0.0, seconds - 12) for seconds in every)
    assert facts["audio_lost"] == pytest.approx(lost / sum(every), rel=1e-12)
    assert [step["cut"] for step in facts["cuts"]] == [half / 2 for half in range(1, 121)]
    for step in facts["cuts"]:
        kept = [seconds for seconds in every if seconds <= step["cut"]]
        assert step["kept_whole"] == len(kept) / 16
        gone = sum(seconds - step["cut"] for seconds in every if seconds > step["cut"])
        assert step["audio_lost"] == pytest.approx(gone / sum(every), abs=1e-12)


def test_rates_and_frames(numbers: Any, rows: dict[str, dict[str, str]]) -> None:
    rates = [p.fps for p in PLAN if p.fps] + [Fraction(30)]  # and the one cut short
    facts = numbers["fps"]
    assert facts["videos"] == len(rates) == 10
    assert (facts["lowest"], facts["highest"]) == (25.0, 1000.0)
    assert facts["mean"] == pytest.approx(float(sum(rates) / 10), rel=1e-12)
    assert {value: entry["count"] for value, entry in facts["values"].items()} == {
        "30": 5, "1000": 2, "25": 1, "29.83": 1, "62.5": 1,
    }  # fmt: skip
    assert list(facts["values"])[:2] == ["30", "1000"]
    assert facts["values"]["30"]["fraction"] == 0.5
    assert facts["true_mean"] == pytest.approx(facts["mean"], rel=1e-9)
    frames, left = numbers["frames"], int(rows["94"]["frames"])
    assert frames["found"] == sum(p.frames for p in PLAN) + left
    assert frames["expected"] == frames["found"]
    assert frames["faces"]["clips"] == 17  # a folder of faces is there, so every clip has a number, if 0
    assert frames["faces"]["found"] == 42 + 3 + 0 + 24
    high = 42 / 6.54
    assert frames["faces"]["fps"] == {
        "lowest": 6.0,
        "highest": high,
        "mean": pytest.approx((6 + 6 + high) / 3),
    }
    assert frames["faces"]["without"] == 14
    assert numbers["papers_clips"] == {
        "11437": {"faces": 42, "expected": 196, "faces_fps": pytest.approx(high)}
    }


def test_sound(numbers: Any, rows: dict[str, dict[str, str]]) -> None:
    facts = numbers["audio"]
    assert {rate: entry["count"] for rate, entry in facts["rates"].items()} == {"16000": facts["tracks"]}
    assert facts["channels"]["1"]["fraction"] == 1.0
    assert facts["kilobits"]["64"]["count"] == 3
    assert facts["kilobits"]["256"]["count"] == 1
    assert facts["decoded"] == 15
    assert facts["clipped"] == ["train 6", "valid 21"]
    assert facts["silent"] == ["train 5"]
    total = sum(int(row["samples"]) for row in rows.values() if row["samples"])
    spoken = sum(int(row["samples"]) * float(row["speech"]) for row in rows.values() if row["samples"])
    assert facts["speech"] == pytest.approx(spoken / total, abs=1e-12)


def test_damage_is_named(numbers: Any, rows: dict[str, dict[str, str]]) -> None:
    facts = {(entry["split"], entry["clip"]): entry for entry in numbers["damaged"]}
    for name, (file, message) in DAMAGED.items():
        entry = facts.pop(("train", name))
        assert message in entry["reason"]
        assert message in rows[name]["troubles"]
        assert entry["kind"] == ("missing" if file is None else "damaged")
        assert entry["reason"].startswith(f"{file}: ") or file is None
    assert facts.pop(("train", "3"))["kind"] == "duplicate"
    assert "has no audio track" in facts.pop(("train", "8"))["reason"]
    assert not facts
    assert len(numbers["damaged"]) == 7


def test_the_report_shows_the_papers_values_beside_its_own(actual: Description, numbers: Any) -> None:
    text = (actual.out / "description.md").read_text(encoding="utf-8")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    table = {line[0]: line[1:] for line in lines if len(line) == 3}
    for quantity, own, paper in (
        ("zero labels, train", f"{100 * 10 / 12:.1f} % to {100 * 11 / 12:.1f} %", "55.3 % to 89.9 %"),
        ("zero labels, valid", "0.0 % to 100.0 %", "34.1 % to 52.4 %"),
        ("shortest to longest", "0.064 s to 31.25 s", "0.1 s to 1249.9 s"),
        ("under 1 s", "4 (25.0 %)", "533 (3.1 %)"),
        ("over 12 s", "2 (12.5 %)", "753 (4.4 %)"),
        ("kept whole at 12 s", "87.5 %", "95.6 %"),
        ("fps", "25 to 1000", "25 to 1000"),
        ("at 30 fps", "50.0 %", "62.6 %"),
        ("at 1000 fps", "20.0 %", "20.1 %"),
        ("exotic fps", "29.83, 62.5", "29.83, 62.5, ..."),
        ("faces of clip 11437, of frames expected", "42 of 196, 6.42 a second", "42 of 196, 6.42 a second"),
        ("faces of clip 15709, of frames expected", "-", "5.84 a second"),
        ("channels", "1 (100.0 %)", "1"),
        ("clipped, silent clips", "2, 1", "-"),
    ):
        assert table[quantity] == [own, paper]
    assert markdown.compare_with_paper(numbers)[0][1] == "14, 3, 2"
    assert "train 95: no file of that name" in text
    for name in ("labels", "durations", "cuts"):
        assert f"({name}.png)" in text
        assert (actual.out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (actual.out / f"{name}.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    other = markdown.render({**numbers, "durations": {**numbers["durations"], "cut": 5.0}}, (), "facts.jsonl")
    assert "| over 5 s | 2 (12.5 %) | - |" in other  # the paper has no value for another cut


def test_many_values_and_names_are_cut_off_in_the_report(numbers: Any) -> None:
    rates = {str(rate): {"count": 2, "fraction": 0.05} for rate in range(25, 45)}
    damaged = [{"split": "train", "clip": str(i), "kind": "missing", "reason": "gone"} for i in range(60)]
    fps = {**numbers["fps"], "values": rates}
    text = markdown.render({**numbers, "fps": fps, "damaged": damaged}, (), "facts.jsonl")
    assert "| 36 | 2 (5.0 %) |\n| others | 16 (40.0 %) |" in text
    assert "train 49: gone\n- and 10 more" in text


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != measure.JOURNAL}


def test_an_interrupted_run_goes_on(
    corpus: Path, actual: Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, decoded = decode.load, []

    def counting(path: Path, **options: Any) -> Any:
        if stop and "00005" in path.name:
            raise KeyboardInterrupt
        decoded.append(path.name)
        return load(path, **options)

    monkeypatch.setattr(decode, "load", counting)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        describe(corpus, out=tmp_path, workers=1, progress=False)
    assert files(tmp_path) == {}
    before = list(decoded)
    assert before[:4] == ["11437.mp3", "00002.mp3", "00003.flac", "00004.flac"]
    # The kill also tore a line, and the disk lost another.
    journal = tmp_path / measure.JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(before) + 1
    journal.write_bytes(b"".join([*lines[:2], b"\0" * 20 + b"\n", *lines[3:], lines[1][:-30]]))
    stop = False
    again = describe(corpus, out=tmp_path, workers=2, progress=False)
    assert again.numbers == actual.numbers
    assert files(tmp_path) == files(actual.out)
    assert Counter(decoded) - Counter(before) == Counter(
        [name for name in (path.name for path in _list_decoded(corpus)) if name not in before] + ["00002.mp3"]
    )
    # A third run decodes nothing; a file that changed is decoded again.
    decoded.clear()
    describe(corpus, out=tmp_path, progress=False)
    assert decoded == []


def _list_decoded(corpus: Path) -> list[Path]:
    alone = ("00007.mov", "00008.mov")
    return [*(corpus / "audio").iterdir(), *(corpus / "raw" / name for name in alone)]


def test_what_changed_is_measured_again(undrawn: None, tmp_path: Path) -> None:
    folder = write(tmp_path / "corpus", [p for p in PLAN if p.id in ("6", "21")], damaged=False)
    first = describe(folder, progress=False)
    decode.save(folder / "audio" / "00006.flac", noise(3200), codec="flac")
    (folder / "face_images" / "6").mkdir(parents=True)
    (folder / "face_images" / "6" / "1.JPG").touch()
    second = describe(folder, progress=False)
    assert [clip.seconds for clip in first.clips] == [1.0, 0.5]
    assert [clip.seconds for clip in second.clips] == [0.2, 0.5]
    assert [clip.faces for clip in second.clips] == [1, 0]
    journal = first.out / measure.JOURNAL
    journal.write_bytes(b'{"schema": "emimic/facts/0"}\n{"of": "another emimic"}\n')
    assert describe(folder, progress=False).numbers == second.numbers
    with journal.open("rb") as other:
        assert lock(other)
        with pytest.raises(EmimicError, match="is in use: another emimic"):
            describe(folder, progress=False)


def test_a_file_that_vanishes_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path, [p for p in PLAN if p.id in ("6", "23")], damaged=False)
    corpus = load_corpus(folder, scan=False)
    (folder / "audio" / "00006.flac").unlink()
    gone, whole = measure.measure(corpus, tmp_path)
    assert gone.measured.troubles == ("audio/00006.flac: does not exist. Check the path.",)
    assert (gone.seconds, whole.seconds) == (None, 10.0)


def test_damage_inside_a_video_is_reported(undrawn: None, tmp_path: Path) -> None:
    folder = write(tmp_path, [p for p in PLAN if p.id in ("6", "23")], damaged=False)
    stream = bytearray(video(30, 90, "mpegts", codec="mpeg2video"))
    stream[len(stream) // 3 // 188 * 188 : len(stream) // 2 // 188 * 188] = b""
    (folder / "raw" / "6.ts").write_bytes(stream)
    (entry,) = describe(folder, progress=False).numbers["damaged"]
    assert entry["reason"] == "raw/6.ts: a part of it is damaged; the rest is counted."


def test_audio_alone(undrawn: None, tmp_path: Path) -> None:
    folder = write(tmp_path, [p for p in PLAN if p.id in ("6", "23")], damaged=False)
    (folder / "raw").rmdir()
    described = describe(folder, out=tmp_path / "out" / "deep", cut=5, progress=False)
    assert described.numbers["fps"] is None
    assert described.numbers["frames"] == {
        "videos": 0, "found": 0, "expected": 0, "with_gaps": {"count": 0, "fraction": None}, "faces": None,
    }  # fmt: skip
    assert described.numbers["durations"]["audio_lost"] == pytest.approx(5 / 11)
    assert "There are no videos." in (described.out / "description.md").read_text(encoding="utf-8")
    assert "over 5 s" in described.to_text()


def test_video_alone(undrawn: None, tmp_path: Path) -> None:
    plan = [Plan("1", "train", sound=noise(8000), suffix=None, fps=Fraction(30), frames=15), PLAN[8]]
    folder = write(tmp_path, plan, damaged=False)
    for path in (folder / "audio").iterdir():
        path.unlink()
    (folder / "audio").rmdir()
    described = describe(folder, progress=False)
    one, two = described.clips
    assert (one.audio, one.video, one.seconds) == ("raw/00001.mov", "raw/00001.mov", 0.5)
    assert two.measured.waveform is None
    assert "raw/00021.mov: has no audio track" in two.measured.troubles[0]
    assert described.numbers["fps"]["values"]["30"]["count"] == 2


def test_frames_missing_in_the_video_are_reported(undrawn: None, tmp_path: Path) -> None:
    folder = write(tmp_path, [p for p in PLAN if p.id in ("6", "23")], damaged=False)
    (folder / "raw" / "6.mp4").write_bytes(video(30, 196, skip=(100, 150)))
    (folder / "raw" / "23.mkv").write_bytes(video(30, 60, "matroska", tick=Fraction(1, 1000)))
    described = describe(folder, progress=False)
    frames, fps = described.numbers["frames"], described.numbers["fps"]
    assert (frames["found"], frames["expected"]) == (146 + 60, 196 + 60)
    assert frames["with_gaps"] == {"count": 1, "fraction": 0.5}
    assert set(fps["values"]) == {
        "30",
        "1000",
    }  # as the containers state them; the 1000 of the timestamps are not expected
    assert "206 of 256 expected" in (described.out / "description.md").read_text(encoding="utf-8")


def test_other_targets_and_holes(undrawn: None, tmp_path: Path) -> None:
    folder = write(tmp_path, [p for p in PLAN if p.id in ("6", "23")], damaged=False)
    header = ",".join(["Filename", *EMOTIONS, "Speaker"])
    (folder / "train_split.csv").write_text(f"{header}\n6,,0,0,0,0,0,a\n")
    (folder / "valid_split.csv").write_text(f"{header}\n23,0.5,1,0,0,0,0,b\n")
    described = describe(folder, progress=False).numbers
    assert described["labels"]["train"]["Admiration"] == {"clips": 0}
    assert described["labels"]["train"]["Amusement"]["zero"] == 1.0
    assert [row["target"] for row in described["shifts"]] == list(EMOTIONS[1:])
    assert described["speakers"] == 2
    (folder / "train_split.csv").write_text("Filename,Arousal,Dominance,Valence\n6,0,1,0.5\n")
    (folder / "valid_split.csv").write_text("Filename,Arousal,Dominance,Valence\n23,0,1,0.5\n")
    described = describe(folder, progress=False)
    assert described.numbers["labels"] == {}
    assert "## Labels" not in (described.out / "description.md").read_text(encoding="utf-8")


def test_one_table_or_none_will_do(undrawn: None, tmp_path: Path) -> None:
    folder = write(tmp_path, [p for p in PLAN if p.id in ("2", "8", "23")], damaged=False)
    (folder / "train_split.csv").rename(folder / "test_split.csv")
    (folder / "test_split.csv").write_text("Filename\n2\n8\n")
    (folder / "valid_split.csv").rename(folder / "val_split.csv")
    both = describe(folder, progress=False).numbers
    assert [(name, part["listed"]) for name, part in both["clips"].items()] == [("valid", 1), ("test", 2)]
    assert set(both["labels"]) == {"valid"}
    (folder / "val_split.csv").unlink()
    one = describe(folder, progress=False)
    assert {name: part["readable"] for name, part in one.numbers["clips"].items()} == {"test": 2}
    (folder / "test_split.csv").unlink()
    none = describe(folder, out=tmp_path / "none", progress=False)
    assert [(c.split, c.id, c.audio, c.video) for c in none.clips] == [
        ("all", "00002", "audio/00002.mp3", "raw/00002.mov"),
        ("all", "00023", "audio/00023.flac", None),
        ("all", "00008", "raw/00008.mov", "raw/00008.mov"),
    ]
    assert [c.seconds for c in none.clips] == [0.5, 10.0, 1.5]
    text = (none.out / "description.md").read_text(encoding="utf-8")
    assert "## Labels" not in text
    assert not (none.out / "labels.png").exists()
    assert "| length, all | 0.2 min | about 15 h, 9 h, 9 h |" in text
    assert "by decoding: 0.2 min, median 1.50 s" in text


@pytest.mark.parametrize(
    ("hours", "text"), [(0.04, "2.4 min"), (0.999, "59.9 min"), (1.0, "1.00 h"), (33, "33.00 h")]
)
def test_less_than_an_hour_is_given_in_minutes(numbers: Any, hours: float, text: str) -> None:
    changed = {**numbers, "clips": {"all": {"listed": 1, "hours": hours}}}
    assert markdown.compare_with_paper(changed)[1] == ("length, all", text, "about 15 h, 9 h, 9 h")


def test_refusals_say_what_to_do(tmp_path: Path, corpus: Path) -> None:
    for arguments, message in (
        ((tmp_path / "nowhere",), "is not a folder"),
        ((tmp_path,), "no train_split.csv, valid_split.csv"),
    ):
        with pytest.raises(CorpusError, match=message):
            describe(*arguments, progress=False)
    for cut in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(CorpusError, match="expected a positive number of seconds"):
            describe(corpus, cut=cut, progress=False)
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match="can't be written"):
        describe(corpus, out=tmp_path / "file", progress=False)
    folder = write(tmp_path / "broken", [p for p in PLAN if p.id in ("6", "23")], damaged=False)
    for path in (folder / "audio").iterdir():
        path.write_bytes(b"no sound")
    with pytest.raises(CorpusError, match=r"no clip can be read \(audio/00006\.flac: "):
        describe(folder, progress=False)
    for path in (folder / "audio").iterdir():
        path.unlink()
    with pytest.raises(CorpusError, match="no clip of split 'train' can be used"):
        describe(folder, progress=False)


def test_the_command(corpus: Path, actual: Description, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["describe", str(corpus), "--out", str(tmp_path), "--quiet"])
    assert result.exit_code == 0, result.output
    assert "this corpus" in result.stdout
    assert "damaged or missing: 7" in result.stdout
    assert files(tmp_path) == files(actual.out)


# Numbers against formulas written again.


@given(
    st.lists(st.floats(0.01, 2000), min_size=1, max_size=40),
    st.lists(st.floats(0.01, 3000), min_size=1, max_size=10),
)
def test_the_cost_of_cuts_against_brute_force(lengths: list[float], cuts: list[float]) -> None:
    cuts += lengths[:3]
    kept, lost = statistics.compute_cost(np.sort(np.array(lengths)), cuts)
    for index, cut in enumerate(cuts):
        assert kept[index] == sum(length <= cut for length in lengths) / len(lengths)
        gone = sum((Fraction(length) - Fraction(cut) for length in lengths if length > cut), Fraction(0))
        assert lost[index] == pytest.approx(float(gone / sum(map(Fraction, lengths))), abs=1e-9)


def test_errors_of_recording_are_counted_and_left_out() -> None:
    facts = statistics.summarize_durations([1.0, 3.0, 13.0, 7201.0, 7200.0], 12.0)
    assert (facts["clips"], facts["over_two_hours"], facts["longest"]) == (5, 1, 7200.0)
    assert facts["mean"] == (1 + 3 + 13 + 7200) / 4
    assert facts["over_cut"]["count"] == 3
    assert facts["kept_whole"] == 2 / 5
    assert facts["audio_lost"] == pytest.approx((1 + 7188) / 7217)
    assert statistics.summarize_durations([8000.0], 12.0)["longest"] == 8000.0


def kolmogorov(n: int, m: int, gap: float) -> float:
    """Kolmogorov's distribution beyond the gap, by Jacobi's other series of it, which is fast where this one isn't."""
    at = gap * math.sqrt(n * m / (n + m))
    if at < 1e-3:
        return 1.0
    below = sum(math.exp(-(((2 * k - 1) * math.pi / at) ** 2) / 8) for k in range(1, 60))
    return 1 - math.sqrt(2 * math.pi) / at * below


@settings(max_examples=30)
@given(st.data())
def test_shifts_against_their_definition(data: st.DataObject) -> None:
    targets = ("a", "b", "c")
    labels = {
        split: np.array(data.draw(st.lists(st.tuples(LABELS, LABELS, LABELS), min_size=1, max_size=20)))
        for split in ("train", "valid")
    }
    facts = statistics.compare_splits(labels, targets)
    assert [row["target"] for row in facts] == list(targets)
    ps = []
    for index, row in enumerate(facts):
        x, y = (sorted(labels[split][:, index]) for split in ("train", "valid"))
        gaps = [
            abs(Fraction(sum(v <= at for v in x), len(x)) - Fraction(sum(v <= at for v in y), len(y)))
            for at in {*x, *y}
        ]
        assert row["ks"] == pytest.approx(float(max(gaps)), abs=1e-12)
        ps.append(kolmogorov(len(x), len(y), float(max(gaps))))
        assert row["p"] == pytest.approx(ps[-1], abs=1e-9)
        assert row["difference"] == pytest.approx(sum(y) / len(y) - sum(x) / len(x), abs=1e-12)
    for index, row in enumerate(facts):
        # Holm: the largest of p times the number of tests not yet passed, over all tests up to this one.
        corrected = max(min(1.0, q * sum(other >= q for other in ps)) for q in ps if q <= ps[index])
        assert row["p_holm"] == pytest.approx(corrected, abs=1e-9)
        assert row["shifts"] == (row["p_holm"] < 0.05)


def test_a_shift_is_found() -> None:
    rng = np.random.default_rng(0)
    one, two = (rng.random((400, 3)) * (rng.random((400, 3)) > zero) for zero in (0.8, [0.8, 0.35, 0.8]))
    facts = statistics.compare_splits({"train": one, "valid": two}, ("Admiration", "Determination", "Joy"))
    assert [row["shifts"] for row in facts] == [False, True, False]
    # scipy's own test approximates the same distribution.
    theirs = [stats.ks_2samp(one[:, i], two[:, i], method="asymp") for i in range(3)]
    assert [row["ks"] for row in facts] == pytest.approx([test.statistic for test in theirs])
    assert [row["p"] for row in facts] == pytest.approx([test.pvalue for test in theirs], rel=0.2)


@given(st.lists(st.tuples(LABELS, st.one_of(LABELS, st.just(math.nan))), min_size=1, max_size=30))
def test_zeros_and_quartiles_against_their_definition(values: list[tuple[float, float]]) -> None:
    facts = statistics.summarize_labels({"train": np.array(values)}, ("a", "b"))["train"]
    for index, name in enumerate("ab"):
        column = sorted(row[index] for row in values if not math.isnan(row[index]))
        assert facts[name]["clips"] == len(column)
        if not column:
            continue
        assert facts[name]["zero"] == column.count(0.0) / len(column)
        for quarter, value in enumerate(facts[name]["quartiles"], 1):
            place_in = quarter / 4 * (len(column) - 1)
            low, high = column[math.floor(place_in)], column[math.ceil(place_in)]
            assert value == pytest.approx(low + (high - low) * (place_in % 1), abs=1e-12)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.0005, 0.5, 0.9995, -1.0, 1.2]), st.integers(1, 900)),
        min_size=1,
        max_size=8,
    )
)
def test_clipping_and_silence_against_their_definition(parts: list[tuple[float, int]]) -> None:
    samples = np.concatenate([np.full(count, value, np.float32) for value, count in parts])
    facts = measure.analyze(samples)
    runs = [(key, len(list(run))) for key, run in itertools.groupby(abs(float(v)) >= 0.999 for v in samples)]
    assert facts.clipped == sum(length for loud, length in runs if loud and length >= 3)
    chunks = [samples[at : at + 512].astype(float) for at in range(0, len(samples), 512)]
    assert facts.silence == sum(math.sqrt((c**2).mean()) < 1e-3 for c in chunks) / len(chunks)
    assert facts.peak == abs(samples).max()


def test_the_fraction_of_speech_is_silero_vads() -> None:
    """The model's probabilities over the whole clip at once, the last chunk counted for the samples it has."""
    import onnxruntime

    session = onnxruntime.InferenceSession(silero_vad.MODEL, providers=["CPUExecutionProvider"])

    def probabilities(samples: np.ndarray[Any, Any]) -> Any:
        count = -(-len(samples) // 512)
        end = np.zeros(count * 512 - len(samples), np.float32)
        padded = np.concatenate([np.zeros(64, np.float32), samples, end])
        frames = np.stack([padded[i * 512 : i * 512 + 576] for i in range(count)])
        zero = np.zeros((1, 1, 128), np.float32)
        return session.run(["speech_probs"], {"input": frames, "h": zero, "c": zero})[0]

    facts = []
    for path in sorted((emimic.sample.get_folder() / "audio").glob("*.mp3"))[:12]:
        samples = decode.load(path)
        samples = samples[: 512 * int(np.argmax(probabilities(samples))) + 400]  # ends where speech is likely
        sizes = [min(512, len(samples) - at) for at in range(0, len(samples), 512)]
        spoken = sum(size for size, p in zip(sizes, probabilities(samples), strict=True) if p >= 0.5)
        facts.append(silero_vad.measure_speech(samples))
        assert facts[-1] == pytest.approx(spoken / len(samples), abs=1e-9)
    assert 0 < np.mean(facts) < 1
    assert silero_vad.measure_speech(np.zeros(0, np.float32)) == 0.0


def test_box_plots_have_the_quartiles_of_the_labels() -> None:
    labels = {
        "train": np.array([[0.0, 0.5], [0.0, math.nan], [1.0, 0.5], [0.2, 0.5]]),
        "valid": np.ones((2, 2)),
    }
    figure = plots.draw_boxes(labels, ("a", "b"))
    upper, lower = figure.axes
    assert upper.get_title() == "train (4 clips)"
    assert lower.get_title() == "valid (2 clips)"
    assert upper.get_position().y0 > lower.get_position().y1
    corners = upper.patches[0].get_path().vertices[:, 1]
    assert (corners.min(), corners.max()) == pytest.approx((0.0, 0.4))
    assert [text.get_text() for text in upper.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize("fps", [[], [30.0], [25.0, 30.0, 1000.0]])
def test_histograms_hold_every_clip_on_logarithmic_axes(fps: list[float]) -> None:
    seconds = np.array([0.064, 1.0, 6.9, 7.0, 1249.9])
    figure = plots.draw_durations(seconds, np.array(fps))
    assert len(figure.axes) == 1 + bool(fps)
    for panel, values in zip(figure.axes, (seconds, fps), strict=False):
        assert panel.get_xscale() == panel.get_yscale() == "log"
        assert sum(bar.get_height() for bar in panel.patches) == len(values)
    render(figure)


@given(st.lists(st.floats(0.01, 5000), min_size=1, max_size=20, unique=True))
@settings(max_examples=5)
def test_the_cost_of_cuts_is_drawn_for_any_lengths(lengths: list[float]) -> None:
    at = np.sort(np.array(lengths))
    figure = plots.draw_cuts(at, *statistics.compute_cost(at, at), 12.0)
    steps, lost, line = figure.axes[0].get_lines()
    assert steps.get_ydata()[-1] == 100.0
    assert lost.get_ydata()[-1] == pytest.approx(0.0, abs=1e-9)
    assert set(line.get_xdata()) == {12.0}
    again = plots.draw_cuts(at, *statistics.compute_cost(at, at), 12.0)
    assert render(figure, "svg") == render(again, "svg")


def test_the_synthetic_corpus_is_what_it_says(tmp_path: Path) -> None:
    folder = write(tmp_path, [PLAN[2], PLAN[8]], damaged=False)
    assert soundfile.info(folder / "audio" / "00003.flac").frames == 192_000
    assert io.BytesIO((folder / "raw" / "00003.mov").read_bytes()).read(8)[4:] == b"ftyp"
