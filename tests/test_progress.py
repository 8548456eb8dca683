"""Progress bars: an inner bar is below the outer one, and neither writes to standard output."""

import io

import pytest
from rich.console import Console

from emimic import progress


def test_a_validation_shows_its_bar_below_the_trainings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(progress, "get_console", lambda: console)
    with progress.make_bar(show=True) as bar:
        bar.add_task("training", total=2)
        assert list(progress.show_progress(range(3), "validating", total=3, show=True)) == [0, 1, 2]
        bar.refresh()
    text = screen.getvalue()
    assert text.index("training") < text.index("validating")
    assert "100%" in text
    assert capsys.readouterr().out == ""


def test_without_bars_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "get_console", lambda: Console(file=screen, force_terminal=True))
    with progress.make_bar(show=False) as bar:
        bar.add_task("training", total=2)
        assert list(progress.show_progress("ab", "validating", total=2, show=False)) == ["a", "b"]
    assert screen.getvalue() == ""
