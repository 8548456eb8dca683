"""Journal files: entries survive interruption, one process writes, other files are never overwritten."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emimic.journal import JournalFile
from emimic.task import EmimicError

HEAD = {"schema": "emimic/things/1", "emimic": "1.0"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "things.jsonl"


def test_entries_are_read_again_in_order(path: Path) -> None:
    with JournalFile(path, HEAD) as journal:
        assert list(journal.read_entries()) == []
        journal.append({"number": 1})
        journal.append({"number": 2}, sync=False)
    with JournalFile(path, HEAD) as journal:
        assert [entry["number"] for entry in journal.read_entries()] == [1, 2]
        journal.append({"number": 3})
        assert journal.note is None
    assert json.loads(path.read_text().splitlines()[0]) == HEAD
    with JournalFile(path, HEAD, fresh=True) as journal:
        assert list(journal.read_entries()) == []


def test_a_torn_or_invalid_line_is_skipped(path: Path) -> None:
    with JournalFile(path, HEAD) as journal:
        journal.append({"number": 1})
    with path.open("ab") as file:
        file.write(b'\0\n{"number":2}\n{"num')
    with JournalFile(path, HEAD) as journal:
        assert [entry["number"] for entry in journal.read_entries()] == [1, 2]
        journal.append({"number": 3})
    with JournalFile(path, HEAD) as journal:
        assert [entry["number"] for entry in journal.read_entries()] == [1, 2, 3]


def test_spaces_in_a_head_do_not_matter(path: Path) -> None:
    path.write_text(json.dumps(HEAD) + '\n{"number": 1}\n')
    with JournalFile(path, HEAD) as journal:
        assert [entry["number"] for entry in journal.read_entries()] == [1]


def test_another_writer_starts_over_with_a_note(path: Path) -> None:
    with JournalFile(path, HEAD) as journal:
        journal.append({"number": 1})
    with JournalFile(path, HEAD | {"emimic": "2.0"}) as journal:
        assert list(journal.read_entries()) == []
        assert (
            journal.note == f"{path} was written by another version of emimic: everything is computed again"
        )
    with JournalFile(path, HEAD | {"emimic": "2.0", "model": "b"}) as journal:
        assert journal.note is not None
        assert "another model" in journal.note


def test_other_files_and_other_processes_are_errors(path: Path) -> None:
    path.write_text('{"schema":"emimic/others/1"}\n')
    with pytest.raises(EmimicError, match="is no journal of emimic"):
        JournalFile(path, HEAD)
    assert path.read_text() == '{"schema":"emimic/others/1"}\n'
    path.unlink()
    with (
        JournalFile(path, HEAD),
        pytest.raises(EmimicError, match="is in use: another emimic writes its things"),
    ):
        JournalFile(path, HEAD)
    JournalFile(path, HEAD).__exit__(None, None, None)


def test_threads_write_whole_lines(path: Path) -> None:
    with JournalFile(path, HEAD) as journal, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: journal.append({"number": i, "text": "x" * 5000}, sync=False), range(64)))
    with JournalFile(path, HEAD) as journal:
        assert sorted(entry["number"] for entry in journal.read_entries()) == list(range(64))
