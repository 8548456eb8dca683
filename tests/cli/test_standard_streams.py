"""Printing that fails: characters, full disks, readers that have closed, closed streams, output of libraries."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emimic.cli import standard_streams
from emimic.cli.standard_streams import Output, safe_streams

# The command with a verb of its own, which prints and then does its work: fast, and needs no model.
VERB = """
import os, sys, warnings
from emimic import cli
from emimic.task import EmimicWarning
@cli.app.command()
def work(file: str, size: int = 1) -> None:
    os.write(2, b"a library speaks")
    warnings.warn("not ours")
    warnings.warn("ours", EmimicWarning)
    print("\\u2588 \\U0001f600 \\udcff" * size)
    print("line", file=sys.stderr)
    open(file, "x").close()
cli.main()
"""


def run(file: Path, *words: str, shell: str = '"$@"', **env: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", VERB, "work", str(file), *words]
    return subprocess.run(
        ["sh", "-c", shell, "sh", *command],
        capture_output=True,
        env=os.environ | env,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("shell", "words", "code", "part"),
    [
        ('"$@" | true; exit 0', ("--size", "100000"), 0, b""),
        ('"$@" >/dev/full', (), 1, b"standard output can't be written (No space left on device)"),
        ('"$@" >/dev/full', ("--size", "100000"), 1, b"standard output can't be written"),
        ('"$@" >&-', (), 0, b""),
        ('"$@" <&- >&-', ("--size", "100000"), 0, b""),
        ('"$@" 2>/dev/full', (), 0, b""),
        ('"$@" 2>&-', (), 0, b""),
        ('"$@" <&- >&- 2>&-', (), 0, b""),
    ],
)
def test_the_work_is_done_wherever_output_goes(
    shell: str, words: tuple[str, ...], code: int, part: bytes, tmp_path: Path
) -> None:
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = run(tmp_path / "file", *words, shell=shell)
    assert (tmp_path / "file").exists()
    assert (tmp_path / "file").stat().st_size == 0  # nothing that was printed went into it
    assert done.returncode == code
    assert part in done.stderr
    if "2>" not in shell:
        assert done.stderr.startswith(b"emimic: ours\nline\n")
        assert done.stderr.count(b"\n") == (3 if part else 2)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "\u2588 \U0001f600 ?\n".encode()),
        ("cp1252", b"? ? ?\n"),
        ("cp437", b"\xdb ? ?\n"),
        ("ascii:xmlcharrefreplace", b"&#9608; &#128512; &#56575;\n"),
    ],
)
def test_letters_outside_the_encoding_are_replaced(encoding: str, shown: bytes, tmp_path: Path) -> None:
    done = run(tmp_path / "file", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout.replace(b"\r\n", b"\n")) == (0, shown)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere libraries keep standard error")
def test_libraries_speak_only_when_asked(tmp_path: Path) -> None:
    assert run(tmp_path / "1").stderr == b"emimic: ours\nline\n"
    loud = run(tmp_path / "2", EMIMIC_DEBUG="1").stderr
    assert b"a library speaks" in loud
    assert b"UserWarning: not ours" in loud


class Raw(io.RawIOBase):
    """Takes `takes` bytes at a time (0: not now, as a non-blocking terminal) and fails after `room`."""

    def __init__(self, takes: list[int], room: int) -> None:
        self.takes, self.room, self.data = iter(takes), room, b""

    def write(self, data: memoryview) -> int | None:  # type: ignore[override]
        if len(self.data) >= self.room:
            raise OSError(28, "No space left on device")
        part = bytes(data[: min(next(self.takes, 3), self.room - len(self.data))])
        self.data += part
        return len(part) or None

    def writable(self) -> bool:
        return True


@given(st.binary(max_size=60), st.lists(st.integers(0, 7), max_size=9), st.integers(0, 70))
def test_all_is_written_or_the_failure_is_kept(data: bytes, takes: list[int], room: int) -> None:
    raw = Raw(takes, room)
    output = Output(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standard_streams.time, "sleep", lambda _: None)
        assert output.write(data) == len(data)
        assert output.write(b"") == 0
    assert raw.data == data[:room]
    assert (output.failure is None) == (len(data) <= room)
    if output.failure:
        assert output.write(b"more") == 4
        assert raw.data == data[:room]


def test_streams_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    raws = Raw([], 9), Raw([], 9)
    streams_before = tuple(io.TextIOWrapper(io.BufferedWriter(raw), encoding="ascii") for raw in raws)  # type: ignore[type-var]
    monkeypatch.setattr(Raw, "fileno", lambda _: 9)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams_before[0])
        patch.setattr(sys, "stderr", streams_before[1])
        with safe_streams() as output:
            assert output is not None
            assert sys.stdout is not streams_before[0]
            print("äöü")
            print("long lines", file=sys.stderr)
        assert (sys.stdout, sys.stderr) == streams_before
    assert output.failure is None
    assert [raw.data for raw in raws] == [b"???\n", b"long line"]


def test_what_is_no_file_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    own = io.StringIO()
    monkeypatch.setattr(sys, "stdout", own)
    with safe_streams(native=True) as output:
        assert output is None
        assert sys.stdout is own
