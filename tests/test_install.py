"""The pip command for a missing extra, for a clone, a wheel and an index."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from emimic import install as module
from emimic.install import install
from emimic.wording import pluralize, suggest_name


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Where the package lies: not in a clone, and nothing is written down about it."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "site" / "emimic" / "install.py"))
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Record(None))
    module._find_source.cache_clear()
    yield tmp_path
    module._find_source.cache_clear()


class Record:
    def __init__(self, url: str | None) -> None:
        self.url = url

    def read_text(self, name: str) -> str | None:
        return None if self.url is None else json.dumps({"url": self.url})


def test_this_clone_names_itself() -> None:
    module._find_source.cache_clear()
    (word,) = shlex.split(install("train").removeprefix("pip install "))
    folder = Path(word.removesuffix("[train]"))
    assert (folder / "pyproject.toml").is_file()


def test_the_first_minutes_name_each_extra() -> None:
    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    listed = re.findall(
        r"^\| `(\w+)` \|", (root / "docs" / "first-minutes.md").read_text("utf-8"), re.MULTILINE
    )
    assert set(listed) == set(project["optional-dependencies"]) - {"docs", "dev"}


def test_a_wheel_and_a_folder_that_were_installed_are_named(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = package / "with space" / "emimic-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Record(wheel.as_uri()))
    assert install("formats") == f"pip install '{wheel}[formats]'"


@pytest.mark.parametrize("url", [None, "file:///gone/emimic", "https://example.org/emimic.whl", "file:"])
def test_without_a_trace_the_name_is_left(package: Path, monkeypatch: pytest.MonkeyPatch, url: Any) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: Record(url))
    assert install("mic") == "pip install 'emimic[mic]'"


def test_a_package_that_is_only_on_the_path(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)
    assert install("ray") == "pip install 'emimic[ray]'"


def test_words() -> None:
    assert [pluralize(n, "clip") for n in (0, 1, 2, 1200)] == ["0 clips", "1 clip", "2 clips", "1200 clips"]
    assert suggest_name("Praat", ["praat", "elan"]) == " (did you mean 'praat'?)"
    assert suggest_name("zzz", ["praat", "elan"]) == ""
