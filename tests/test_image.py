"""The Dockerfile and compose.yaml: what they copy exists, and what they start is accepted. No Docker is needed."""

import json
import os
import subprocess
import sys
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from benchmarks.image import Build, Step, list_context, read_steps
from emimic.cli import app

ROOT = Path(__file__).parent.parent
STEPS = read_steps(ROOT / "Dockerfile")


@pytest.fixture(scope="module")
def context() -> set[str]:
    return list_context(ROOT)


def test_what_is_copied_is_in_the_repository(context: set[str]) -> None:
    sources = [word for step in STEPS if step.name == "COPY" for word in step.split()[:-1]]
    local = [source for source in sources if not source.startswith(("--from=", "/"))]
    assert "src" in local
    for source in local:
        assert any(name == source or name.startswith(f"{source}/") for name in context), source


def test_the_build_sees_no_more_than_it_needs(context: set[str]) -> None:
    assert {name.split("/")[0] for name in context} == {
        "pyproject.toml", "constraints.txt", "package.json", "package-lock.json", "README.md", "LICENSE", "src",
    }  # fmt: skip


def test_the_user_is_not_root_and_the_health_is_checked() -> None:
    last = {step.name: step for step in STEPS}
    user, group = last["USER"].text.split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "/ready" in last["HEALTHCHECK"].split()[-1]


def test_the_server_and_its_health_check_read_one_port(tmp_path: Path) -> None:
    command = next(step for step in STEPS if step.name == "HEALTHCHECK").split()
    assert command.pop(0) == "python"
    (tmp_path / "ready").touch()
    with HTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        threading.Thread(target=server.handle_request).start()
        for port, status in ((server.server_port, 0), (1, 1)):
            environment = {**os.environ, "EMIMIC_PORT": str(port)}
            done = subprocess.run(
                [sys.executable, *command], env=environment, capture_output=True, check=False
            )
            assert done.returncode == status, done.stderr
    words = next(step for step in STEPS if step.name == "ENTRYPOINT").split()[1:]
    result = CliRunner().invoke(app, [*words[:-2], "--insecure"], env={"EMIMIC_PORT": "99999"})
    assert "EMIMIC_PORT" in result.output, result.output
    (declared,) = (step.text for step in STEPS if step.name == "EXPOSE")
    assert any(f"EMIMIC_PORT={declared}" in step.text.split() for step in STEPS if step.name == "ENV")


def test_serve_accepts_the_options_of_the_command() -> None:
    words = [word for step in STEPS if step.name in ("ENTRYPOINT", "CMD") for word in step.split()]
    assert words[0] == "emimic"
    result = CliRunner().invoke(app, [*words[1:], "--page", "/nowhere"])
    assert "--page /nowhere has no index.html" in str(result.exception), "every option before was accepted"


def test_compose_publishes_for_this_computer_alone() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["emimic"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    result = CliRunner().invoke(
        app, ["serve", "--host", "0.0.0.0", *service["command"], "--page", "/nowhere"]
    )
    assert "--page /nowhere has no index.html" in str(result.exception), "every option before was accepted"


def test_steps_run_in_a_folder(tmp_path: Path) -> None:
    """Absolute paths stand for those in the folder, variables hold, and what .dockerignore hides can't be copied."""
    build = Build(tmp_path / "root", ROOT)
    for line in (
        "WORKDIR /source",
        "COPY LICENSE ./",
        "ENV PATH=/opt/bin:$PATH",
        "RUN cat LICENSE > /source/copy",
    ):
        name, _, text = line.partition(" ")
        build.execute(Step(name, text))
    assert (tmp_path / "root/source/copy").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert build.environment["PATH"].startswith(f"{tmp_path}/root/opt/bin:")
    with pytest.raises(FileNotFoundError, match=r"COPY tests: \.dockerignore"):
        build.execute(Step("COPY", "tests ./"))
    assert Step("HEALTHCHECK", f"--timeout=5s CMD {json.dumps(['a', 'b c'])}").split() == ["a", "b c"]
