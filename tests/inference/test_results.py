"""Results as dicts that JSON holds, as data frames, as HTML that nothing can break out of."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import fake_engine
import numpy as np
import pytest
from json_schema import keeps

from emimic.inference.predictor import Predictor
from emimic.inference.results import Failure, Result, Results
from emimic.inference.timeline import Timeline
from emimic.task import EMOTIONS, VAD, EmimicError

SOUND = fake_engine.recording(("burst", 1.5), ("hush", 4.0), ("burst", 1.0))
NASTY = '<script>alert(1)</script> & "co"'


@pytest.fixture
def result() -> Result:
    predictor = Predictor(fake_engine.Fake())
    plain = predictor(SOUND, sample_rate=16_000, name=f"{NASTY}.wav".replace("/", "-"))
    line = predictor.predict_timeline(SOUND, sample_rate=16_000, name=plain.path)
    return Result(plain.path, plain.targets, plain.seconds, False, True, plain.prediction, line)


@pytest.fixture
def line(result: Result) -> Timeline:
    assert result.timeline is not None
    return result.timeline


def test_printing_a_result_takes_one_line(result: Result, line: Timeline) -> None:
    values = dict(zip(EMOTIONS, result.prediction.intensities, strict=True))
    expected = ", ".join(f"{name} {abs(round(float(value), 2)):.2f}" for name, value in values.items())
    assert str(result) == f"{result.path.name}: 6.5 s; {expected}; padded"
    assert repr(result) == f"<Result {result}>"
    odd = replace(result, path=Path("a\n\x1b\udc80.wav"), timeline=None)
    assert str(odd).startswith("a ")
    assert str(odd).isprintable()
    silent = replace(odd, prediction=replace(result.prediction, intensities=np.full(6, np.nan, np.float32)))
    assert "Joy -" in str(silent)
    assert re.fullmatch(r".*: 6\.5 s, 33 steps of 0\.2 s, voice in \d+%; means Admiration \d.*", str(line))
    assert repr(line) == f"<Timeline {line}>"


def test_printing_results_takes_a_line_each(result: Result) -> None:
    results = Results(EMOTIONS, (result, result), (Failure(Path("a.wav"), "a.wav: is empty"),))
    assert str(results).splitlines() == [str(result), str(result), "a.wav: is empty"]
    assert repr(results) == "<Results: 2 predicted, 1 failed>"
    assert str(Results(EMOTIONS, (), ())) == "no recordings"


def test_values_by_name_are_those_to_quote(result: Result, line: Timeline) -> None:
    assert list(result.intensities) == list(EMOTIONS)
    assert all(type(value) is float for value in result.intensities.values())
    np.testing.assert_allclose(list(result.intensities.values()), result.prediction.intensities, atol=1e-6)
    assert result.vad is not None
    assert list(result.vad) == list(VAD)
    np.testing.assert_allclose(list(result.vad.values()), result.prediction.vad.mean(axis=0), atol=1e-6)
    cut = replace(result, was_cut=True)  # of a longer recording, the mean over time
    np.testing.assert_allclose(
        list(cut.intensities.values()), np.nanmean(line.intensities, axis=0), atol=1e-6
    )
    as_json = cut.to_dict()["headline"]
    assert (cut.intensities, cut.vad) == (as_json["intensities"], as_json["vad"])
    assert replace(result, prediction=replace(result.prediction, vad=None)).vad is None
    silent = Predictor(fake_engine.Fake())(np.zeros(16_000, np.float32), sample_rate=16_000)
    assert np.isnan(list(silent.intensities.values())).all()


def test_dicts_are_json_and_say_their_version(result: Result, line: Timeline) -> None:
    whole = Results(EMOTIONS, (result,), (Failure(Path("a.wav"), "a.wav: is empty"),)).to_dict()
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert {one["schema"] for one in (whole, result.to_dict(), line.to_dict())} == {"emimic/results/1"}
    assert whole["failed"] == [{"file": "a.wav", "reason": "a.wav: is empty"}]
    alone = result.to_dict()
    assert {**whole["clips"][0], "schema": "emimic/results/1"}.items() <= alone.items()
    assert list(alone["intensities"]) == list(EMOTIONS)
    np.testing.assert_allclose(list(alone["intensities"].values()), result.prediction.intensities, atol=1e-6)
    fields = line.to_dict()
    assert fields["name"] == result.path.stem
    assert fields["seconds"] == pytest.approx(line.seconds, abs=1e-3)
    keeps("output/formats/schema.json", whole, alone, fields)
    values = np.array(fields["intensities"]["Joy"], float)  # None becomes NaN
    np.testing.assert_allclose(values, line.intensities[:, 5], atol=1e-6)
    assert np.isnan(values).any()
    assert fields["vad"]["times"] == pytest.approx(line.vad_times)


def test_frames(result: Result, line: Timeline) -> None:
    row = result.to_frame()
    assert list(row.columns) == ["Filename", "Seconds", *EMOTIONS, *VAD, "Basis", "Notes"]
    assert row.iloc[0]["Seconds"] == pytest.approx(6.5)
    assert row.iloc[0]["Joy"] == pytest.approx(float(result.prediction.intensities[5]))
    assert row.iloc[0]["Valence"] == pytest.approx(float(result.prediction.vad[:, 2].mean()))
    frame = line.to_frame()
    assert frame.index.name == "Seconds"
    np.testing.assert_allclose(frame.index, line.times)
    np.testing.assert_allclose(frame[list(EMOTIONS)], line.intensities, atol=1e-6)
    np.testing.assert_allclose(frame["Start"], line.starts)
    assert frame["Arousal"].isna().equals(frame["Joy"].isna())
    tenth = (line.vad_times >= 0.2) & (line.vad_times < 0.4)
    assert frame["Arousal"].iloc[1] == pytest.approx(line.vad[tenth, 0].mean(), abs=1e-5)
    empty = Results(EMOTIONS, (), ()).to_frame()
    assert list(empty.columns) == ["Filename", "Seconds", *EMOTIONS, "Basis", "Notes"]
    assert len(empty) == 0


def test_a_missing_pandas_is_reported(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for thing in (result, result.timeline):
        with pytest.raises(EmimicError, match=r"pip install '.*\[formats\]'"):
            thing.to_frame()  # type: ignore[union-attr]


class Closed(HTMLParser):
    """Fails on anything that is not closed, on scripts, and on anything fetched from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "link", "iframe")
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)
        if tag != "path":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_notebooks_show_them_safely(result: Result, line: Timeline) -> None:
    results = Results(EMOTIONS, (result,), (Failure(Path("x"), f"{NASTY}: is empty"),))
    for thing in (results, result, line):
        shown = thing._repr_html_()
        page = Closed()
        page.feed(shown)
        page.close()
        assert page.open == []
        assert "<script>alert(1)" in page.text
        assert all(name in page.text for name in EMOTIONS)
    assert "padded" in result._repr_html_()
    drawn = re.findall(r'<path d="([^"]*)"', line._repr_html_())
    assert len(drawn) == 6
    assert all(d.count("M") == 2 for d in drawn)  # two bursts, with silence between
    assert not re.search(r"\bnan\b", results._repr_html_() + result._repr_html_())


def test_results_need_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "pandas", "matplotlib", "av", "onnxruntime", "audformat", "pympi"}
    code = f"import sys, emimic.inference.results; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
