"""Atomic writes, locks and hashes: a file has either the old or the new content, and no temporary file remains."""

import errno
import hashlib
import os
import re
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emimic.files import (
    OutputError,
    compute_sha256,
    fold_case,
    hold,
    list_visible,
    lock,
    make_folder,
    make_printable,
    replace_atomically,
    walk,
    write_atomically,
)
from emimic.task import EmimicError


def test_bytes_and_text_arrive_unchanged(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.bin", b"\x00\r\n\xff")
    write_atomically(tmp_path / "a.txt", "Grüße\r\n\n")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\r\n\xff"
    assert (tmp_path / "a.txt").read_bytes() == "Grüße\r\n\n".encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "a.txt"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_atomically(target, "old")
    write_atomically(str(target), "new")
    assert target.read_text() == "new"


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def half() -> None:
        with replace_atomically(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_until_the_end_the_old_content_is_seen(tmp_path: Path) -> None:
    target = tmp_path / "model.npz"
    target.write_text("old")
    with replace_atomically(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".npz"
        assert temporary != target
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert not temporary.exists()


def test_the_content_is_on_the_disk_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    fsync, replace = os.fsync, Path.replace

    def watch_fsync(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def watch_replace(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(Path, "replace", watch_replace)
    write_atomically(tmp_path / "a", b"x")
    assert events == ["file", "rename", "folder"]
    monkeypatch.delattr(os, "O_DIRECTORY")  # as on Windows
    write_atomically(tmp_path / "a", b"y")
    assert events[3:] == ["file", "rename"]


def test_the_umask_rules_the_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/a can't be written .*Make its folder"):
        write_atomically(tmp_path / "nowhere" / "a", b"x")


@pytest.mark.parametrize(
    ("error", "number", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left"), errno.ENOSPC, "(No space left on device). Free space"),
        (OSError(errno.EFBIG, "x"), errno.EFBIG, "(File too large). This system allows no file"),
        (
            PermissionError(errno.EACCES, "x", "other"),
            errno.EACCES,
            "(Permission denied). Name a folder that you",
        ),
        (OSError(errno.EROFS, "x"), errno.EROFS, "(Read-only file system). Name a folder that you"),
        (OSError(errno.EIO, "x"), errno.EIO, "(Input/output error). Check the path and the disk"),
        (OSError("12 requested and 0 written"), None, "(12 requested and 0 written). Check"),  # NumPy's
        (RuntimeError("I/O error: Disk full (os error 28)"), errno.ENOSPC, "(No space left on device). Free"),
    ],
)
def test_what_the_system_refuses_names_the_file(
    error: Exception, number: int | None, reason: str, tmp_path: Path
) -> None:
    target = tmp_path / "b\udce4r.json"
    target.write_text("old")
    with pytest.raises(OutputError) as caught, replace_atomically(target):
        raise error
    assert str(caught.value).startswith(f"{target} can't be written {reason}")
    assert isinstance(caught.value, EmimicError)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == number
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), replace_atomically(tmp_path / "a"):
        raise ValueError("mine")


def test_a_full_disk_is_named_whoever_writes(tmp_path: Path) -> None:
    """Python, safetensors and NumPy, on a disk that takes 8 kB."""
    code = """
import resource, sys
import numpy as np
from safetensors.numpy import save_file
from emimic.files import OutputError, replace_atomically, write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
data = np.zeros(9999)
for write in (
    lambda file: write_atomically(file, bytes(99999)),
    lambda file: write_arrays(file, lambda temporary: save_file({"a": data}, temporary)),
    lambda file: write_arrays(file, lambda temporary: np.save(temporary.open("wb"), data)),
):
    def write_arrays(file, save):
        with replace_atomically(file) as temporary:
            save(temporary)
    try:
        write(sys.argv[1])
    except OutputError as error:
        print(error)
"""
    pytest.importorskip("resource")
    file = tmp_path / "a.npy"
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{file} can't be written (") for line in lines)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_made_and_tried(tmp_path: Path) -> None:
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert not list(make_folder(tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    for path, reason in (("file", "A file has this name"), ("file/below", "A part of this path is a file")):
        with pytest.raises(OutputError, match=f"{path} can't be written .*{reason}"):
            make_folder(tmp_path / path)


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "b\udce4r \U0001f600")
    assert (tmp_path / "a").read_text("utf-8") == "b\ufffdr \U0001f600"


@given(st.text(st.characters()))
def test_printable_moves_no_cursor(text: str) -> None:
    shown = make_printable(text)
    shown.encode()
    assert len(shown) == len(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)
    assert shown == text or "\ufffd" in shown
    assert (
        make_printable("3\u202fPM\u00a0\U0001f468\u200d\U0001f469")
        == "3\u202fPM\u00a0\U0001f468\u200d\U0001f469"
    )


@pytest.mark.parametrize(
    "names",
    [("A\u0308", "\u00e4", "\u00c4"), ("Stra\u00dfe", "STRASSE"), ("\u212a", "k"), ("\u03c2", "\u03a3")],
)
def test_names_that_a_file_system_takes_for_one_are_folded(names: tuple[str, ...]) -> None:
    assert len({fold_case(name) for name in names}) == 1
    assert fold_case("a") != fold_case("b")


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with replace_atomically(tmp_path / "a") as one, replace_atomically(tmp_path / "a") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a").read_text() == "one"  # the outer block ends last


def test_sha256_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert compute_sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(size=st.sampled_from([0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1]))
def test_sha256_across_blocks(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp("hash") / "file"
    path.write_bytes(b"x" * size)
    assert compute_sha256(str(path)) == hashlib.sha256(b"x" * size).hexdigest()


def test_a_lock_is_one_holders_until_it_closes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("ab") as one, path.open("ab") as two:
        assert lock(one)
        assert not lock(two)
    with path.open("ab") as again:
        assert lock(again)


@pytest.mark.skipif(sys.platform == "win32", reason="fcntl")
def test_a_held_file_is_one_holders_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / ".lock"
    with hold(path) as first:
        assert first
        with hold(path) as second:
            assert not second
        assert path.exists()
    assert not path.parent.exists()
    with hold(path) as again:
        assert again
        (path.parent / "a").touch()
    assert [one.name for one in path.parent.iterdir()] == ["a"]
    with pytest.raises(ZeroDivisionError), hold(path):
        raise ZeroDivisionError
    assert not path.exists()


def test_no_two_hold_a_file_at_once(tmp_path: Path) -> None:
    """Its holders remove it while others open it."""
    path, inside, most, got = tmp_path / "folder" / ".lock", 0, 0, 0

    def take(_: int) -> None:
        nonlocal inside, most, got
        for _ in range(50):
            with hold(path) as ours:
                if ours:
                    inside += 1
                    most, got = max(most, inside), got + 1
                    time.sleep(0.0001)
                    inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert most == 1
    assert got > 4
    assert list(tmp_path.glob("folder/*")) == []


def test_a_folder_that_others_make_and_remove_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, times = Path.mkdir, []

    def mkdir(self: Path, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        times.append(1)
        if len(times) == 1:  # it was gone when looked at, and is there again
            raise FileExistsError

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with hold(tmp_path / "folder" / ".lock") as ours:
        assert ours
    assert len(times) == 2


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_holds_nothing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "folder").touch() if kind == "file" else (tmp_path / "folder").symlink_to("nowhere")
    with pytest.raises(OutputError, match="folder can't be written"), hold(tmp_path / "folder" / ".lock"):
        pass


HIDDEN = (
    ".Trash-1000/files/a.wav", ".ipynb_checkpoints/a.wav", "__MACOSX/a.wav", "$RECYCLE.BIN/a.wav", "deep/._a.wav",
    "deep/@eaDir/a.wav/SYNO.mp3", "System Volume Information/a.wav", "lost+found/a.wav", ".a.wav",
)  # fmt: skip


def test_a_walk_passes_by_what_is_hidden(tmp_path: Path) -> None:
    for name in (*HIDDEN, "deep/deeper/a.wav", "b", "deep/c.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "deep" / "back").symlink_to(tmp_path)
    (tmp_path / "deep" / "itself").symlink_to("itself")
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "deeper")
    troubles: list[OSError] = []
    actual = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path, troubles)]
    assert actual == ["b", "deep/c.wav", "deep/itself", "deep/deeper/a.wav"]
    assert [path.name for path in walk(tmp_path / ".Trash-1000", troubles)] == ["a.wav"]  # somebody named it
    assert [entry.name for entry in list_visible(tmp_path)] == ["b", "deep", "link"]
    assert troubles == []
    assert list(walk(tmp_path / "nowhere", troubles)) == []
    assert [error.filename for error in troubles] == [str(tmp_path / "nowhere")]


def test_a_file_system_without_locks_is_taken_at_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    with (tmp_path / "a").open("ab") as file:
        assert lock(file)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_weights_may_be_read_by_whom_the_umask_says(tmp_path: Path) -> None:
    written = tmp_path / "model.safetensors"
    before = os.umask(0o022)
    try:
        with replace_atomically(written) as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE(written.stat().st_mode) == 0o644
