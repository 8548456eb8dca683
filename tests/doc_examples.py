"""Commands and code blocks of README and docs."""

import re
import shlex

import typer.main

from emimic.cli import app


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Return every command line of emimic in a page, without comments."""
    lines = "\n".join(blocks(text, "console")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if not line.startswith(("pip ", "git "))]
    return [line[line.index("emimic") + 1 :] for line in words if "emimic" in line]


def parse(words: list[str]) -> None:
    """Fail unless the command line accepts these words."""
    group = typer.main.get_command(app)
    with group.make_context("emimic", list(words)) as context:
        rest = [*context._protected_args, *context.args]
    with group.commands[rest[0]].make_context(rest[0], rest[1:]) as context:
        assert context.params
