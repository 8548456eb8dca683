"""The API over HTTP: its predictions equal those of the predictor, and its errors have stable codes."""

import gzip
import json
import re
import time
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from json_schema import keeps
from local_server import make_voice, serve, to_wav
from media_files import encode

import emimic
from emimic.inference.predictor import Predictor
from emimic.inference.results import Result, Results
from emimic.mimicry import Settings, compare_all
from emimic.output import extras, formats

VOICE = to_wav(make_voice(1.5))
MEDIA = {"wav": "audio/wav", "mp3": "audio/mpeg", "mp4": "video/mp4", "flac": "", "opus": "application/ogg"}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return emimic.load(threads=1)


def post(
    server: httpx.Client, content: bytes = VOICE, name: str = "voice.wav", **fields: str
) -> httpx.Response:
    return server.post("/v1/emotions", files={"file": (name, content)}, data=fields)


def predict(
    predictor: Predictor, content: bytes, folder: Path, name: str = "voice.wav", **options: Any
) -> Result:
    """Return what `emimic predict` returns for a file of that name, with the name alone as its path."""
    (folder / name).write_bytes(content)
    results: Results = predictor.predict_files([folder / name], **options)
    return results.clips[0].replace_path(Path(name))


def measure_difference(first: Any, second: Any) -> float:
    """Return the largest difference between the numbers of two JSON values that are otherwise equal."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        return max((measure_difference(first[key], second[key]) for key in first), default=0.0)
    if isinstance(first, list):
        assert len(first) == len(second)
        return max((measure_difference(*pair) for pair in zip(first, second, strict=True)), default=0.0)
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second)
    assert first == second
    return 0.0


@pytest.mark.parametrize("kind", MEDIA)
def test_a_recording_gets_the_prediction_of_its_file(
    kind: str, server: httpx.Client, predictor: Predictor, tmp_path: Path
) -> None:
    content = encode(make_voice(1.0), kind, 48_000 if kind == "opus" else 16_000)
    expected = predict(predictor, content, tmp_path, f"voice.{kind}").to_dict()
    form = post(server, content, f"C:\\own\\voice.{kind}")
    raw = server.post(
        "/v1/emotions", content=content, headers={"Content-Type": MEDIA[kind]} if MEDIA[kind] else {}
    )
    assert (form.status_code, raw.status_code) == (200, 200), form.text
    keeps("output/formats/schema.json", form.json(), raw.json())
    assert measure_difference(form.json(), expected) < 1e-4
    assert raw.json() == {**form.json(), "Filename": "recording", "file": "recording"}


def test_a_timeline_equals_that_of_the_program(
    server: httpx.Client, predictor: Predictor, tmp_path: Path
) -> None:
    expected = predict(predictor, VOICE, tmp_path, timeline=True, window=1.0, hop=0.5).to_dict()
    for response in (
        post(server, window="1", hop="0.5"),
        server.post("/v1/emotions?window=1&hop=0.5&timeline=true", content=VOICE),
    ):
        found = response.json()
        assert measure_difference(found["timeline"], expected["timeline"]) < 1e-4
    assert "timeline" not in post(server).json()
    assert post(server, timeline="true").json()["timeline"]["hop"] == 0.2


@pytest.mark.parametrize("kind", ["csv", "vtt", "textgrid", "eaf"])
def test_a_format_is_that_of_the_program(
    kind: str, server: httpx.Client, predictor: Predictor, tmp_path: Path
) -> None:
    result = predict(predictor, VOICE, tmp_path, timeline=True)
    expected = formats.render(result, kind)
    response = post(server, response_format=kind)
    assert response.status_code == 200
    assert "json" not in response.headers["content-type"]
    number = r"-?\d+\.\d+"
    dated = re.compile(r'DATE="[^"]*"')
    texts = [dated.sub("", text) for text in (response.text, expected)]
    assert re.sub(number, "", texts[0]) == re.sub(number, "", texts[1])
    values = [np.array([float(value) for value in re.findall(number, text)]) for text in texts]
    assert np.abs(values[0] - values[1]).max() < 2e-3
    # No folder of the server's is in it.
    assert "file:" not in response.text


def test_an_html_page_has_its_policy_in_the_header(server: httpx.Client) -> None:
    response = server.post(
        "/v1/emotions?response_format=html", files={"file": ("<b>voice & I</b>.wav", VOICE, "audio/wav")}
    )
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert re.search(r"script-src 'sha256-[^']+'", policy)
    assert policy.endswith("frame-ancestors 'none'")
    assert "<b>voice" not in response.text
    assert "data:audio/wav;base64," in response.text


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_fetch_nothing_from_elsewhere(path: str, server: httpx.Client) -> None:
    response = server.get(path)
    assert response.status_code == 200
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in response.text
    assert not re.findall(r'(?:src|href|action)="(?!/)', response.text)
    assert not re.findall(r"https?://", response.text)


def test_the_documentation_names_all_of_the_api(server: httpx.Client) -> None:
    document, page = server.get("/openapi.json").json(), server.get("/docs").text
    assert set(document["paths"]) == {
        "/v1/emotions",
        "/v1/mimicry",
        "/v1/models",
        "/health",
        "/ready",
        "/metrics",
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in page
            assert all(
                f"<td>{parameter['name']}</td>" in page for parameter in operation.get("parameters", [])
            )
    assert "<td>file</td>" in page


def test_the_model_and_the_state_are_described(server: httpx.Client) -> None:
    (model,) = server.get("/v1/models").json()["models"]
    assert model["id"] == "default"
    assert tuple(model["targets"]) == emimic.EMOTIONS
    assert server.get("/health").json() == {"status": "alive"}
    assert server.get("/ready").json() == {"status": "ready"}


def test_metrics_count_and_name_nobody(server: httpx.Client) -> None:
    post(server, name="secret-name.wav")
    response = server.get("/metrics")
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
    counts = re.findall(
        r'emimic_requests_total\{method="POST",route="/v1/emotions",status="200"\} ([\d.]+)', response.text
    )
    assert float(counts[0]) >= 1
    assert "secret" not in response.text


def test_a_comparison_equals_that_of_the_program(server: httpx.Client, predictor: Predictor) -> None:
    voices = [to_wav(make_voice(4.0)), to_wav(make_voice(3.5)[::-1])]
    files = [("seed", ("seed.wav", voices[0])), ("mimic", ("mimic.wav", voices[1]))]
    response = server.post("/v1/mimicry", files=files, data={"draws": "39", "hop": "0.5"})
    assert response.status_code == 200, response.text
    lines = [
        predictor.predict_timeline(voice, name=name, hop=0.5)
        for voice, name in zip(voices, ("seed", "mimic"), strict=True)
    ]
    expected = compare_all(lines[0], lines[1:], settings=Settings(draws=39)).to_dict()
    found = response.json()
    assert found["settings"] == expected["settings"]
    assert found["comparisons"][0]["overall"]["similarity"] == pytest.approx(
        expected["comparisons"][0]["overall"]["similarity"], abs=1e-2
    )


def test_the_channels_of_one_recording_are_compared(server: httpx.Client) -> None:
    first, second = make_voice(8.0), make_voice(8.0)[::-1]
    pair = to_wav(np.stack([first, second], axis=1))
    options = {"draws": "19", "correlation_window": "2", "lag": "0.6", "hop": "0.6", "voice": "0.1"}
    refused = server.post("/v1/mimicry", files={"seed": ("pair.wav", pair)}, data=options)
    assert refused.json()["error"]["code"] == "invalid_parameter"  # voice is no option
    del options["voice"]
    found = server.post("/v1/mimicry", files={"seed": ("pair.wav", pair)}, data=options).json()
    assert [found["comparisons"][0][side]["name"] for side in ("seed", "mimic")] == [
        "pair channel 1",
        "pair channel 2",
    ]
    assert found["settings"]["alignment"] == "windowed"
    same = to_wav(np.stack([first, first], axis=1))
    response = server.post("/v1/mimicry", files={"seed": ("pair.wav", same)}, data=options)
    assert response.json()["error"]["code"] == "not_comparable"
    refused = server.post("/v1/mimicry", files={"seed": ("pair.wav", pair)}, data={"hop": "0.19"})
    assert refused.json()["error"]["code"] == "invalid_parameter", "its memory would grow with 1 / hop²"
    files = [("seed", ("pair.wav", pair)), ("mimics", ("mimic.wav", to_wav(first)))]
    refused = server.post("/v1/mimicry", files=files, data=options)
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "invalid_parameter")
    assert "'mimics'" in refused.json()["error"]["message"]


FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
ERRORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no recording": ({"content": b""}, 422, "missing_file"),
    "no sound": ({"content": b"no sound"}, 422, "undecodable"),
    "text": ({"content": VOICE, "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type"),
    "JSON": ({"json": {}}, 415, "unsupported_media_type"),
    "an empty file": ({"files": {"file": ("a.wav", b"")}}, 422, "missing_file"),
    "another field": ({"files": {"sound": ("a.wav", VOICE)}}, 422, "missing_file"),
    "two files": ({"files": [("file", ("a", VOICE)), ("file", ("b", VOICE))]}, 422, "malformed_body"),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "malformed_body"),
    "a broken form": ({"content": b"--x\r\n", "headers": FORM}, 422, "malformed_body"),
    "half a form": ({"content": PART + VOICE[:100], "headers": FORM}, 422, "missing_file"),
    "an unknown field": ({"files": {"file": ("a", VOICE)}, "data": {"hops": "1"}}, 422, "invalid_parameter"),
    "a field twice": ({"files": [("file", ("a", VOICE)), ("hop", (None, "1")), ("hop", (None, "2"))]}, 422,
                      "invalid_parameter"),
    "a long field": ({"files": {"file": ("a", VOICE)}, "data": {"hop": "1" * 2000}}, 422, "malformed_body"),
    "an unknown parameter": ({"params": {"hops": "1"}, "content": VOICE}, 422, "invalid_parameter"),
    "an unknown format": ({"params": {"response_format": "xml"}, "content": VOICE}, 422, "invalid_parameter"),
    "no number": ({"params": {"hop": "nan"}, "content": VOICE}, 422, "invalid_parameter"),
    "a hop over the window": ({"params": {"hop": "2", "window": "1"}, "content": VOICE}, 422, "invalid_parameter"),
    "a window over the clip": ({"params": {"window": "13"}, "content": VOICE}, 422, "invalid_parameter"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_stable_codes(name: str, server: httpx.Client) -> None:
    request, status, code = ERRORS[name]
    response = server.post("/v1/emotions", **request)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert response.json()["error"]["message"].endswith(".")


def test_other_paths_and_methods_are_errors_too(server: httpx.Client) -> None:
    assert server.get("/v1/audio/transcriptions").json()["error"]["code"] == "not_found"
    response = server.get("/v1/emotions")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_the_extra_server_brings_what_each_format_needs(server: httpx.Client) -> None:
    parameters = server.get("/openapi.json").json()["paths"]["/v1/emotions"]["post"]["parameters"]
    (names,) = (each["schema"]["enum"] for each in parameters if each["name"] == "response_format")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    brought = {re.split(r"[>=<]", line)[0] for line in project["optional-dependencies"]["server"]}
    distributions = packages_distributions()
    needed = {
        package
        for name in names
        if name in formats.FORMATS and (extra := formats.FORMATS[name].extra)
        for package in extra.packages
    }
    assert needed == {"webvtt", "praatio", "pympi"}
    for package in (*needed, *extras.SERVER.packages):
        assert brought & {name.replace("_", "-") for name in distributions[package]}, package
    assert needed <= set(extras.SERVER.packages), "the verb asks for them before it starts"


def test_an_unexpected_error_is_logged_without_its_text(
    server: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the name of a person")

    monkeypatch.setattr("emimic.server.routes.check_options", fail)
    caplog.set_level("INFO", "emimic.server")
    response = post(server, name="secret-name.wav", timeline="true")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    end = time.monotonic() + 20.0
    # The last line comes after the response.
    while "POST /v1/emotions" not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)
    assert "unexpected RuntimeError" in caplog.text
    assert "test_api.py" in caplog.text
    assert not {"person", "secret"} & set(re.findall(r"\w+", caplog.text))


def test_a_built_page_is_served_with_its_policy(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>the page</p>")
    (tmp_path / "worker.js").write_text("1;")
    with serve(page=tmp_path) as client:
        for path in ("/", "/worker.js"):
            response = client.get(path)
            assert response.status_code == 200
            assert "connect-src 'self'" in response.headers["content-security-policy"]
        assert "the page" in client.get("/").text
        assert client.get("/../pyproject.toml").status_code == 404
        assert client.get("/health").json() == {"status": "alive"}
        assert json.loads(client.get("/nothing").text)["error"]["code"] == "not_found"
        for method, path, allowed in (("GET", "/v1/emotions", "POST"), ("HEAD", "/health", "GET")):
            response = client.request(method, path)
            assert (response.status_code, response.headers["allow"]) == (405, allowed), "as without a page"
        assert client.post("/").status_code == 405
        assert client.get("/health/").status_code == 404


PACKED = [("gzip", True), ("br, gzip;q=0.5", True), ("x, GZIP", True), ("gzip;q=0", False), ("gzip; q=0.0, br", False),
          ("identity", False), ("xgzip", False), ("", False)]  # fmt: skip


def test_the_page_is_sent_compressed_where_the_browser_can_read_it(tmp_path: Path) -> None:
    files = {name: bytes(100_000) for name in ("index.html", "ort.wasm", "ort.mjs", "model.onnx", "plain.js")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        if name != "plain.js":
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    with serve(page=tmp_path) as client:
        for path, kind in (("/", "text/html"), ("/ort.wasm", "application/wasm"), ("/ort.mjs", "text/javascript"),
                           ("/model.onnx", "application/octet-stream"), ("/plain.js", "text/javascript")):  # fmt: skip
            plain = client.get(path, headers={"Accept-Encoding": "identity"})
            packed = client.get(path, headers={"Accept-Encoding": "gzip"})
            assert plain.content == packed.content == bytes(100_000)  # httpx unpacks
            for response in (plain, packed):
                assert response.headers["content-type"].startswith(kind)
                assert response.headers["vary"] == "Accept-Encoding"
                assert "connect-src 'self'" in response.headers["content-security-policy"]
            assert "content-encoding" not in plain.headers
            if path != "/plain.js":
                assert packed.headers["content-encoding"] == "gzip"
                assert int(packed.headers["content-length"]) < 1000
                assert packed.headers["etag"] != plain.headers["etag"]
                again = {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
                assert client.get(path, headers=again).status_code == 304
        for accepted, is_packed in PACKED:
            response = client.get("/ort.wasm", headers={"Accept-Encoding": accepted})
            assert ("content-encoding" in response.headers) == is_packed, accepted
