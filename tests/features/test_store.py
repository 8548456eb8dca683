"""Features on disk: what is written is read, by the clip's id and no other's."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emimic.features import store
from emimic.task import CorpusError


def sequence(frames: int = 4, features: int = 3, seed: int = 0) -> store.Sequence:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((frames, features)).astype(np.float16)
    return store.Sequence(values, np.arange(frames) / 6 + 1 / 12, rng.random(frames) < 0.7)


@given(frames=st.integers(0, 9), features=st.integers(1, 5), seed=st.integers(0, 99))
def test_what_is_written_is_read(
    frames: int, features: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("store") / "clip.safetensors"
    wrote = sequence(frames, features, seed)
    store.write(file, "00007", wrote)
    actual = store.read(file, "7")  # however the table writes the number
    for name in ("values", "times", "present"):
        np.testing.assert_array_equal(getattr(actual, name), getattr(wrote, name))
        assert getattr(actual, name).dtype == getattr(wrote, name).dtype
    assert store.read_clip_id(file) == "00007"
    assert store.read_frame_size([file], file.parent) == features


def test_a_file_of_another_clip_is_refused(tmp_path: Path) -> None:
    store.write(tmp_path / "00001.safetensors", "00002", sequence())
    with pytest.raises(CorpusError, match=r"holds the features of clip '00002', expected '00001'"):
        store.read(tmp_path / "00001.safetensors", "00001")


def test_the_index_goes_by_the_id_inside(tmp_path: Path) -> None:
    for name, clip in (("a", "00003"), ("b", "11"), ("c", "noise.mp3")):
        store.write(tmp_path / f"{name}.safetensors", clip, sequence())
    (tmp_path / "d.safetensors").write_bytes(b"half of it")
    (tmp_path / ".e.safetensors").write_bytes(b"")
    assert store.index(tmp_path) == {
        "3": tmp_path / "a.safetensors",
        "11": tmp_path / "b.safetensors",
        "noise": tmp_path / "c.safetensors",
    }
    store.write(tmp_path / "twice.safetensors", "3", sequence())
    with pytest.raises(CorpusError, match=r"a.safetensors and twice.safetensors both hold clip '3'"):
        store.index(tmp_path)
    with pytest.raises(CorpusError, match="is not there"):
        store.index(tmp_path / "nothing")


@pytest.mark.parametrize("data", [b"", b"rubbish" * 9, None])
def test_damaged_files_are_named(data: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    store.write(file, "x", sequence())
    file.write_bytes(file.read_bytes()[:-1] if data is None else data)
    assert store.read_clip_id(file) is None
    with pytest.raises(CorpusError, match=r"x\.safetensors can't be read as features"):
        store.read(file, "x")


def test_facts(tmp_path: Path) -> None:
    assert store.read_facts(tmp_path) == {}
    store.describe(tmp_path, {"kind": "speech", "license": "MIT – mit Notiz"})
    known = {"schema": "emimic/features/1", "kind": "speech", "license": "MIT – mit Notiz"}
    assert store.read_facts(tmp_path) == known
    assert json.loads((tmp_path / store.FACTS).read_text(encoding="utf-8"))["kind"] == "speech"
    (tmp_path / store.FACTS).write_text("[1")
    with pytest.raises(CorpusError, match="can't be read"):
        store.read_facts(tmp_path)
    with pytest.raises(CorpusError, match="holds no features"):
        store.read_frame_size([], tmp_path)


def test_frames_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="don't belong together"):
        store.Sequence(np.zeros((3, 2)), np.zeros(2), np.ones(3, np.bool_))
