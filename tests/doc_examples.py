"""Commands and code blocks of the documents."""

import re
import shlex

import typer.main

from emimic.cli import app


def find_blocks(text: str, language: str) -> list[str]:
    """Return the content of every fenced block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def find_commands(text: str) -> list[list[str]]:
    """Return the arguments of every command line of emimic in a document, without comments."""
    lines = "\n".join(find_blocks(text, "console")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if not line.startswith(("pip ", "git "))]
    return [words[words.index("emimic") + 1 :] for words in commands if "emimic" in words]


def parse(words: list[str]) -> None:
    """Fail unless the command line accepts these arguments."""
    group = typer.main.get_command(app)
    with group.make_context("emimic", list(words)) as context:
        verb, *arguments = [*context._protected_args, *context.args]
    with group.commands[verb].make_context(verb, arguments) as context:
        assert context.params
