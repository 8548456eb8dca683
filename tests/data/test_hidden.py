"""Hidden and system files and folders are no recordings, tables or features for anything that lists a folder."""

from pathlib import Path

import pytest
from make_corpora import make, row, wav

from emimic.data.corpus import list_media, load_corpus
from emimic.data.importers.layout import list_recordings
from emimic.data.split_tables import find_split_files
from emimic.describe import measure
from emimic.export import export
from emimic.features import faces
from emimic.inference.engine import DESCRIPTION, ENGINES, Spec, find_fastest
from emimic.task import EMOTIONS, CorpusError
from emimic.training import distill_corpus

HIDDEN = (
    ".Trash-1000/files/d.wav",
    ".ipynb_checkpoints/d.wav",
    "__MACOSX/d.wav",
    "in/._a.wav",
    "in/@eaDir/d.wav",
    "#snapshot/day/d.wav",
    "~snapshot/d.wav",
    "@Recently-Snapshot/d.wav",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*HIDDEN, "in/a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        wav(tmp_path / name)
    return tmp_path


def test_recordings(folder: Path) -> None:
    assert [item.id for item in distill_corpus._list_recordings(folder)] == ["in/a.wav"]
    assert list_recordings(folder, ())[0] == (folder / "in/a.wav",)
    assert list_media(folder / "in", pipes=True) == {"a": [folder / "in/a.wav"]}
    spec = Spec(
        EMOTIONS, max_seconds=12.0, do_normalize=True, min_samples=400, hop=320, first=200.0, vad=True
    )
    assert len(export._read_clips(folder, spec, progress=False)) == 1


def test_a_folder_that_cannot_be_listed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", deny)
    for listed in (distill_corpus._list_recordings, lambda place: list_recordings(place, ())):
        with pytest.raises(CorpusError, match="can't be listed"):
            listed(folder)


def test_tables(tmp_path: Path) -> None:
    corpus = make(tmp_path, train=[row("1")], valid=[row("2")])
    for name in ("._train_split.csv", "._extra_split.csv"):
        (corpus / name).write_bytes(b"\0\5\x16\7 a Mac's shadow of a file")
    assert sorted(find_split_files(corpus, None, [])[0]) == ["train", "valid"]
    assert sorted(load_corpus(corpus).splits) == ["train", "valid"]


def test_faces(tmp_path: Path) -> None:
    for name in ("1/1.jpg", "1/._1.jpg", "1/2.jpg", ".Trash-1000/1.jpg", "@eaDir/1.jpg"):
        (tmp_path / faces.FACES / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / faces.FACES / name).touch()
    assert list(faces.find(tmp_path / faces.FACES, 6.0)) == ["1"]
    actual = measure._list_face_folders(tmp_path / faces.FACES)
    assert list(actual or ()) == ["1"]
    assert measure._count_faces(actual, "1") == 2


def test_what_a_killed_export_left_is_no_engine(tmp_path: Path) -> None:
    place = tmp_path / ENGINES / ".onnx.0123456789ab"
    place.mkdir(parents=True)
    (place / DESCRIPTION).write_text("{")
    assert find_fastest(tmp_path) is None
