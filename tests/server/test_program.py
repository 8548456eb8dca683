"""The program: it drains at SIGTERM, logs no name, and reports what prevents its start."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from local_server import make_voice, to_wav
from typer.testing import CliRunner

from benchmarks.server_process import run_server
from emimic import cli
from emimic.output import extras
from emimic.server.pages import find_page
from emimic.server.program import Program, Settings, make_address
from emimic.task import EmimicError, ModelError, SettingsError


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_it_finishes_requests_at_sigterm_and_logs_no_name() -> None:
    with run_server("--log") as server:
        responses: list[httpx.Response] = []

        def post() -> None:
            files = {"file": ("secret-name.wav", to_wav(np.tile(make_voice(4.0), 2)))}
            responses.append(httpx.post(f"{server.url}/v1/emotions?hop=0.5", files=files, timeout=60))

        thread = threading.Thread(target=post)
        thread.start()
        while "emimic_requests_at_work 1.0" not in httpx.get(f"{server.url}/metrics", timeout=60).text:
            time.sleep(0.005)
        decoders = server.list_decoders()
        server.process.send_signal(signal.SIGTERM)
        thread.join()
        assert [response.status_code for response in responses] == [200]
        assert server.process.wait(60) == 0
        assert server.process.stderr is not None
        log = server.process.stderr.read()
        assert "POST /v1/emotions 200 in" in log
        assert "secret" not in log
        assert not [pid for pid in decoders if Path(f"/proc/{pid}").exists()]


def test_a_taken_port_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            EmimicError, match=rf"127\.0\.0\.1:{port} can't be bound .* Give another --host or --port"
        ):
            Program(Settings(port=port), print).run()


def test_a_damaged_model_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text("{}")
    with pytest.raises(ModelError, match=r"engine\.json"):
        Program(Settings(model=tmp_path, port=0), lambda line: None).run()


def test_the_verb_checks_before_it_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*words: str) -> BaseException | None:
        return CliRunner().invoke(cli.app, ["serve", *words]).exception

    assert isinstance(error := ask("--model", str(tmp_path / "nope")), ModelError)
    assert "there is no folder" in str(error)
    assert isinstance(error := ask("--page", str(tmp_path)), SettingsError)
    assert "has no index.html" in str(error)
    assert isinstance(error := ask("--host", "0.0.0.0"), EmimicError)
    assert "--token-file" in str(error)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert isinstance(error := ask(), EmimicError)
    assert "a server needs: pip install" in str(error)
    assert extras.SERVER.name == "server"


def test_addresses() -> None:
    assert make_address("127.0.0.1", 80) == "http://127.0.0.1:80/"
    assert make_address("0.0.0.0", 8000) == "http://localhost:8000/"
    assert make_address("::1", 8000) == "http://[::1]:8000/"
    assert find_page(Path("page")) == Path("page")


def test_a_decoder_needs_no_web_library() -> None:
    code = "import sys, emimic.server.decoder_child; assert not {'fastapi', 'uvicorn', 'starlette'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
