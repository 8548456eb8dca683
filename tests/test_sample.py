"""The sample corpus of emimic: complete, balanced, speaker-disjoint, and at its documented path."""

import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import emimic.sample
from emimic.data.corpus import Corpus, load_corpus
from emimic.media import decode
from emimic.task import EMOTIONS


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus(emimic.sample.get_folder())


def test_every_clip_is_usable(corpus: Corpus) -> None:
    assert {name: len(split.items) for name, split in corpus.splits.items()} == {
        "train": 84,
        "valid": 28,
        "test": 28,
    }
    assert corpus.targets == EMOTIONS
    assert not corpus.warnings
    assert not any(split.left_out for split in corpus.splits.values())
    assert 0.05 < sum(split.hours for split in corpus.splits.values()) < 0.1


def test_speakers_are_disjoint_and_give_all_seven(corpus: Corpus) -> None:
    speakers = [speaker for split in corpus.splits.values() for speaker in split.speakers or ()]
    assert len(speakers) == len(set(speakers)) == 20
    for split in corpus.splits.values():
        seen = Counter((item.speaker, tuple(item.labels)) for item in split.items if item.labels is not None)
        assert set(seen.values()) == {1}
        assert len(seen) == 7 * len(split.speakers or ())
        np.testing.assert_array_equal(split.labels.mean(axis=0), np.float32(1 / 7))


def test_license_origin_and_size(corpus: Corpus) -> None:
    folder = corpus.folder
    assert "Apache License" in (folder / "LICENSE").read_text(encoding="utf-8")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for message in (
        "github.com/fredbuhl/EmoGator",
        "arXiv 2301.00508",
        "*intended*",
        "mapping of emimic's own",
    ):
        assert message in readme
    with (folder / "sources.csv").open(newline="", encoding="utf-8") as handle:
        sources = list(csv.DictReader(handle))
    stems = sorted(path.stem for path in (folder / "audio").iterdir())
    assert [row["Filename"] for row in sources] == stems
    assert len({row["Source"] for row in sources}) == 140
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 3_000_000


@pytest.fixture(scope="module")
def make_sample() -> ModuleType:
    script = Path(__file__).parents[1] / "benchmarks" / "make_sample.py"
    if not script.exists():
        pytest.skip("benchmarks/ is not beside the tests")
    spec = importlib.util.spec_from_file_location("make_sample", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sentences_lose_their_padding_and_nothing_else(tmp_path: Path, make_sample: ModuleType) -> None:
    rows, padded = [], "03a04Fd"
    tone = (0.5 * np.sin(np.arange(16_000) / 20)).astype(np.float32)
    (tmp_path / "audio").mkdir()
    for code in make_sample.SPEECH.values():
        wave = np.pad(tone, (0, 8_000)) if code == padded else tone
        decode.save(tmp_path / "audio" / f"{code}.mp3", wave, codec="mp3")
        rows.append([f"{code}.mp3", f"emodb{code[:2]}", "male", "anger", "a04", "100.00"])
    header = ["Filename", "Speaker", "Gender", "Emotion", "TextCode", "RecognisedPercent"]
    make_sample.write(tmp_path / "labels.csv", header, rows)
    make_sample.speech(tmp_path, tmp_path / "speech")
    for name, code in make_sample.SPEECH.items():
        original = tmp_path / "audio" / f"{code}.mp3"
        if code != padded:
            assert (tmp_path / "speech" / f"{name}.mp3").read_bytes() == original.read_bytes()
            continue
        cut = decode.load(tmp_path / "speech" / f"{name}.flac")
        assert 16_000 <= len(cut) < 16_000 + 2 * 576  # an mp3 rings on for a frame or two
        np.testing.assert_allclose(cut, decode.load(original)[: len(cut)], atol=2**-15)


def test_it_is_rebuilt_the_same_whatever_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_sample: ModuleType
) -> None:
    """On a made-up source: 21 speakers, one of the validation split, one without a take of sensible size."""
    rows = [
        [f"{speaker:06d}-{number:02d}-{take}", f"{speaker:06d}", category, str(take), split]
        for speaker in range(22)
        for split in ["valid" if speaker == 3 else "train"]
        for number, category in enumerate([*make_sample.CAST, "Anger"])
        for take in (1, 2)
    ]
    (tmp_path / "audio").mkdir()
    for name, speaker, *_ in rows:
        (tmp_path / "audio" / f"{name}.mp3").write_bytes(name.encode() * (10 if speaker == "000005" else 600))
    (tmp_path / "LICENSE").write_text("Apache License", encoding="utf-8")
    for dest, order in (("one", rows), ("two", rows[::-1])):
        header = ["Filename", "Speaker", "Category", "Take", "Split"]
        make_sample.write(tmp_path / "clips.csv", header, order)
        monkeypatch.setattr(sys, "argv", ["make_sample.py", str(tmp_path), str(tmp_path / dest)])
        make_sample.main()
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / dest).rglob("*") if path.is_file()}
        for dest in ("one", "two")
    )
    assert one == two
    assert len(one) == 140 + 6
    assert b"000003" not in one["train_split.csv"] + one["valid_split.csv"] + one["test_split.csv"]
    assert b"000005" not in one["sources.csv"]
    assert b"-2," not in one["sources.csv"]
