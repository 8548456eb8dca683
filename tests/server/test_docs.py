"""The examples of docs/serve.md run against a server."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from doc_examples import find_blocks
from local_server import make_voice, to_wav

from emimic.server.errors import STATUSES

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8000"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a clip."""
    (tmp_path / "clip.wav").write_bytes(to_wav(make_voice(2.0)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def find_code(language: str, server: httpx.Client) -> list[str]:
    """Return the page's blocks of a language, with the server's address."""
    blocks = find_blocks(PAGE, language)
    assert all(ADDRESS in block for block in blocks)
    return [block.replace(ADDRESS, server.base_url.netloc.decode()) for block in blocks]


@pytest.mark.usefixtures("folder")
def test_python(server: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = find_code("python", server)
    exec(compile(first, "docs/serve.md", "exec"), {"__name__": "serve"})  # noqa: S102 - our own page
    assert re.match(r"{'Admiration': 0\.\d+", capsys.readouterr().out)
    exec(compile(second, "docs/serve.md", "exec"), {"__name__": "serve"})  # noqa: S102 - our own page
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("['Admiration'")
    assert len(lines) == 11  # a step each 0.2 s
    long = np.stack([make_voice(3.0)] * 2, axis=1).repeat(6, axis=0)  # longer than a message
    Path("clip.wav").write_bytes(to_wav(long, 96_000))
    exec(compile(second, "docs/serve.md", "exec"), {"__name__": "serve"})  # noqa: S102 - our own page
    assert len(capsys.readouterr().out.splitlines()) == 16
    Path("clip.wav").write_bytes(b"no sound")
    with pytest.raises(RuntimeError, match=r"clip\.wav: undecodable: "):
        exec(compile(first, "docs/serve.md", "exec"), {"__name__": "serve"})  # noqa: S102 - our own page


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_curl(server: httpx.Client, folder: Path) -> None:
    (code,) = find_code("bash", server)
    code = code.replace("curl ", "curl -sS --fail ")
    done = subprocess.run(["bash", "-ec", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('{"schema": "emimic/results/1"')
    assert "WEBVTT" in done.stdout
    assert '"hop": 0.5' in done.stdout


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_javascript(server: httpx.Client, folder: Path) -> None:
    (code,) = find_code("js", server)
    (folder / "example.mjs").write_text(code)
    done = subprocess.run(
        ["node", "example.mjs"], cwd=folder, capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert "Admiration: 0." in done.stdout
    assert done.stdout.rstrip().endswith("4")  # steps


def test_every_code_is_in_the_table() -> None:
    table = PAGE.partition("## Errors")[2].partition("## Streams")[0]
    listed = set(re.findall(r"`(\w+)`", table))
    assert {code for code in STATUSES if code not in ("internal", "flushed", "invalid_samples")} <= listed
    for line in table.splitlines():
        if match := re.match(r"\| (\d[\d, ]*) \|", line):
            statuses = {int(text) for text in match[1].split(", ")}
            codes = re.findall(r"`(\w+)`", line.split("|")[2])
            assert {STATUSES[code] for code in codes} == statuses
