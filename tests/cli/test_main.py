"""The command line: help that fits a screen, one example per verb, errors of one line, imports inside verbs."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from fake_engine import constant_engine
from typer.testing import CliRunner

from emimic import cli
from emimic.cli import predict_request
from emimic.inference.grid import TimelineOptions
from emimic.inference.results import Results
from emimic.task import AudioError, EmimicWarning
from emimic.training.settings import TrainSettings

VERBS = list(typer.main.get_command(cli.app).commands)
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """--debug and --offline set variables, which must not outlive a test."""
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"COLUMNS": "80"})
    monkeypatch.delitem(os.environ, "EMIMIC_DEBUG", raising=False)


@pytest.fixture
def run_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command as the shell does: words -> exit code, standard error."""

    def run(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["emimic", *map(str, words)])
        monkeypatch.setattr(cli.warnings, "formatwarning", cli.warnings.formatwarning)  # main changes it
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        assert isinstance(code, int)
        return code, capsys.readouterr().err

    return run


def test_the_main_help_fits_a_screen() -> None:
    result = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "80"}, terminal_width=80)
    lines = result.stdout.splitlines()
    assert len(lines) <= 35  # twenty verbs in two frames, and three options
    assert max(map(len, lines)) <= 80
    for verb in VERBS:  # each on one line, with nothing cut off
        (line,) = [line for line in lines if re.match(rf"│ {verb} ", line)]
        assert line.rstrip("│ ").endswith(".")
    assert "Example:" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_that_parses(verb: str) -> None:
    result = CliRunner().invoke(cli.app, [verb, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert f"Example: emimic {verb}" in result.stdout
    group = typer.main.get_command(cli.app)
    for example in re.findall(r"emimic ([^;\n]+)", group.commands[verb].help or ""):
        name, *words = example.split()
        with group.commands[name].make_context(name, words) as context:
            assert context.params


def test_help_needs_no_torch() -> None:
    code = "import sys; from emimic import cli; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_broken_model_is_one_line(run_main: Run, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"no sound")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "engine.json").write_text("{", encoding="utf-8")
    for words in (
        ("predict", clip, "--model", tmp_path / "model"),
        ("predict", clip, "--model", tmp_path / "nowhere"),
        ("mimicry", clip, clip, "--model", tmp_path / "model"),
        ("predict", clip, "--formats", "doc"),
        ("predict", clip, "--formats", "intervals", "--model", constant_engine(tmp_path / "uncalibrated")),
    ):
        code, error = run_main(*words)
        assert code == 2
        assert error.startswith("emimic: ")
        assert error.count("\n") == 1
        assert "Traceback" not in error


def test_a_broken_file_is_one_line(run_main: Run, tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(b"no sound")
    code, error = run_main("predict", clip, "--model", constant_engine(tmp_path / "model"), "--quiet")
    assert code == 1
    reason, summary = error.splitlines()
    assert str(clip) in reason
    assert re.fullmatch(r"0 \w+, 1 failed", summary)


def test_all_settings_are_printed_as_yaml_that_train_takes(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["train", "--settings"])
    assert result.exit_code == 0
    (tmp_path / "all.yaml").write_text(result.stdout, encoding="utf-8")
    assert TrainSettings.read(tmp_path / "all.yaml") == TrainSettings()
    for name, field in TrainSettings.model_fields.items():
        before, actual, _ = result.stdout.partition(f"\n{name}: ")
        assert actual, name
        assert (field.description or "?").split()[-1] in before.splitlines()[-1] or name in (
            "context", "corpora", "mixtures", "text", "vision",
        )  # fmt: skip
    assert max(map(len, result.stdout.splitlines())) <= 102


def test_the_help_says_which_verbs_need_more(monkeypatch: pytest.MonkeyPatch) -> None:
    text = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "80"}, terminal_width=80).stdout
    base, train = text.split("Commands that need the extra train")
    assert {"predict", "mimicry", "doctor"} <= set(re.findall(r"│ (\S+) ", base))
    assert {"train", "evaluate", "export"} <= set(re.findall(r"│ (\S+) ", train))
    for verb, needs in (("train", True), ("export", True), ("predict", False)):
        text = CliRunner().invoke(cli.app, [verb, "--help"], env={"COLUMNS": "80"}).stdout
        pattern = r"Needs the extra train: pip install .*\[train\]"
        assert bool(re.search(pattern, " ".join(text.split()))) == needs


def test_a_warning_as_an_error_is_one_line(
    run_main: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emimic.cli.predict_request.run", _fails(EmimicWarning("a.json: of another model.")))
    assert run_main("predict", tmp_path) == (2, "emimic: a.json: of another model.\n")


def test_options_of_timelines_reach_the_prediction(
    monkeypatch: pytest.MonkeyPatch, run_main: Run, tmp_path: Path
) -> None:
    given: list[predict_request.Request] = []

    def run(request: predict_request.Request, _log: Callable[[str], object]) -> Results:
        given.append(request)
        return Results(targets=(), clips=(), failed=())

    monkeypatch.setattr(predict_request, "run", run)
    words = ["--window", "2", "--hop", "0.5", "--exact", "--vad-frames"]
    run_main("predict", tmp_path / "clip.wav", *words)
    run_main("predict", tmp_path / "clip.wav")
    assert [request.options for request in given] == [
        TimelineOptions(2.0, 0.5, True, True),
        TimelineOptions(),
    ]
    assert [request.timelines for request in given] == [True, False]


def test_a_wrong_option_is_explained(run_main: Run) -> None:
    for words in (("predict", "--hop", "much"), ("predikt", "clip.wav"), ("train",)):
        code, error = run_main(*words)
        assert code == 2
        assert "Traceback" not in error


def _fails(error: Exception) -> Callable[..., Any]:
    def run(*_: Any, **__: Any) -> Any:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (AudioError("clip.wav: holds no sound"), 2, "clip.wav: holds no sound"),
        (PermissionError(13, "Permission denied", "out"), 2, "Permission denied: 'out'"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "pip install"),
        (KeyError("surprise"), 1, "KeyError: 'surprise'"),
    ],
)
def test_any_error_is_one_line_unless_debug(
    run_main: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, part: str
) -> None:
    from emimic.tools import doctor

    monkeypatch.setattr(doctor, "examine", _fails(error))
    actual, message = run_main("doctor")
    assert actual == code
    assert message.startswith("emimic: ")
    assert message.count("\n") == 1
    assert part in message
    assert "Traceback" not in message
    monkeypatch.setattr(sys, "argv", ["emimic", "--debug", "doctor"])
    with pytest.raises(type(error)):
        cli.main()


def test_offline_is_set_before_the_verb(run_main: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from emimic.tools import doctor

    def look(*_: Any, **__: Any) -> Any:
        raise AudioError(os.environ["HF_HUB_OFFLINE"])

    monkeypatch.setattr(doctor, "examine", look)
    assert run_main("--offline", "doctor") == (2, "emimic: 1\n")


def test_the_version(run_main: Run) -> None:
    assert run_main("--version")[0] == 0


@pytest.mark.parametrize("words", [["predict", "x.wav"], ["mimicry", "x.wav", "y.wav"]])
def test_a_file_in_place_of_the_folder_is_reported_before_the_work(
    run_main: Run, tmp_path: Path, words: list[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("mine")
    assert run_main(*words, "--out", str(file)) == (
        2,
        f"emimic: --out {file} is a file; name a folder\n",
    )
    assert file.read_text() == "mine"
