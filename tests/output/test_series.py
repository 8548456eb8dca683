"""Timelines for ELAN's time series viewer and NOVA's streams, read as these programs read them."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pympi
import pytest
import xmlschema
from made_results import result as make

from emimic.inference.results import Result
from emimic.output import formats

EAF = xmlschema.XMLSchema(Path(__file__).parents[1] / "schemas" / "eaf.xsd")
VAD = ("Arousal", "Dominance", "Valence")


@pytest.fixture
def one(tmp_path: Path) -> Result:
    media = tmp_path / "a b.wav"
    media.touch()
    return replace(make(seconds=6.0), path=media)


def read_table(path: Path) -> dict[int, list[tuple[float, float]]]:
    """Return (seconds, value) of each column as ELAN's CSVReader: lines with # are skipped, a point means seconds."""
    lines = [line.split(",") for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all("." in line[0] for line in lines)
    assert len({len(line) for line in lines}) == 1
    return {
        column: [(float(line[0]), float(line[column])) for line in lines]
        for column in range(1, len(lines[0]))
    }


def test_elan_finds_the_timelines_of_an_eaf(one: Result, tmp_path: Path) -> None:
    document, table, config = formats.write(one, tmp_path / "out", ["elan-series"])
    assert [path.name for path in (document, table, config)] == [
        "a b-series.eaf", "a b-series.csv", "a b-series_tsconf.xml",
    ]  # fmt: skip
    EAF.validate(str(document))
    eaf = pympi.Elan.Eaf(str(document))
    links = [link["LINK_URL"] for link in eaf.get_secondary_linked_files()]
    assert links == [f"file://{table}", f"file://{config}"]
    assert list(eaf.get_tier_names()) == ["voice segments"]
    (media,) = eaf.get_linked_files()
    assert media["MEDIA_URL"].endswith("/a b.wav")
    # ELAN's TSConfigurationParser: a source with its provider, and tracks with a column each.
    (source,) = ElementTree.parse(config).getroot().findall("tracksource")
    assert source.get("source-url") == f"file://{table}"
    assert source.get("sample-type") == "Discontinuous Rate"
    assert source.find("property").get("key") == "provider"
    columns = read_table(table)
    lines: dict[str, Any] = {}
    for track in source.findall("track"):
        (position,) = track.findall("sample-position/pos")
        assert (track.find("range").get("min"), track.find("range").get("max")) == ("0.0", "1.0")
        assert all(0 <= int(part) <= 255 for part in track.findtext("color").split(","))
        lines[track.get("name")] = np.array(columns[int(position.get("col"))])
    assert source.get("time-column") == "0"
    steps = one.to_steps()
    assert list(lines) == [*one.targets, *VAD]
    for name, values in zip(steps.names, steps.values.T, strict=True):
        np.testing.assert_allclose(lines[name][:, 0], steps.times, atol=5e-4)
        np.testing.assert_allclose(lines[name][:, 1], values, atol=1e-5)  # NaN where silent


def read_stream(path: Path) -> tuple[float, Any]:
    """Return the rate and the rows of a stream, as NOVA's and DISCOVER's handlers do."""
    root = ElementTree.parse(path).getroot()
    assert (root.tag, root.attrib) == ("stream", {"ssi-v": "2"})
    info = root.find("info").attrib
    assert {key: info[key] for key in ("ftype", "byte", "type")} == {
        "ftype": "BINARY",
        "byte": "4",
        "type": "FLOAT",
    }
    rows = np.fromfile(f"{path}~", np.float32).reshape(-1, int(info["dim"]))
    chunks = [{key: float(text) for key, text in chunk.attrib.items()} for chunk in root.findall("chunk")]
    assert sum(chunk["num"] for chunk in chunks) == len(rows)
    rate = float(info["sr"])
    assert chunks[-1]["to"] == pytest.approx(len(rows) / rate, abs=1e-3)
    return rate, rows


@pytest.mark.parametrize("timeline", [True, False])
def test_a_stream_has_each_step_on_its_row(timeline: bool, tmp_path: Path) -> None:
    one = make(seconds=6.0, timeline=timeline)
    header, _ = formats.write(one, tmp_path, ["stream"])
    rate, rows = read_stream(header)
    steps = one.to_steps()
    assert rate == pytest.approx(5.0 if timeline else 1 / 6.0)
    expected = np.full_like(rows, np.nan)
    for time, values in zip(steps.times, steps.values, strict=True):
        expected[int(time * rate + 1e-4)] = values
    np.testing.assert_array_equal(rows, expected)
    names = ElementTree.parse(header).getroot().find("meta").get("names")
    assert names.split(";") == [*one.targets, *VAD]
