"""The README says what is: its commands parse, its Python runs, its tables are those of docs/results."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import typer.main

import emimic.sample
from benchmarks import tables
from emimic.cli import app
from emimic.model import EmiConfig, EmiModel

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Every command line of emimic in a page, without its comment."""
    lines = "\n".join(blocks(text, "console")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if "emimic " in line]
    return [line[line.index("emimic") + 1 :] for line in words if "emimic" in line]


def parse(words: list[str]) -> None:
    """Fails unless the command line takes these words."""
    group = typer.main.get_command(app)
    with group.make_context("emimic", list(words)) as context:
        rest = [*context._protected_args, *context.args]
    with group.commands[rest[0]].make_context(rest[0], rest[1:]) as context:
        assert context.params


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    parse(words)


def test_every_verb_is_shown() -> None:
    assert {words[0] for words in commands(README)} == set(typer.main.get_command(app).commands)


def test_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    tiny = {"model_type": "wavlm", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tiny |= {"conv_dim": [8] * 7, "feat_extract_norm": "layer", "num_conv_pos_embedding_groups": 2}
    EmiModel(EmiConfig(encoder_config=tiny)).save_pretrained(tmp_path / "runs" / "paper")
    shutil.copy(emimic.sample.folder() / "audio" / "00001.mp3", tmp_path / "interview.mp4")  # content decides
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert "Admiration" in capsys.readouterr().out


def test_tables_come_from_the_results() -> None:
    assert tables.filled(README) == README, "run python -m benchmarks.tables"
    assert re.findall(r"<!-- table: (\w+) -->", README) == list(tables.TABLES)
