"""Files, folders, arrays, pipes in, results out: broken files are named and cost only themselves; the command line."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_engine
import media_files
import numpy as np
import pytest
import soundfile
import torch
from media_files import HOSTILE
from typer.testing import CliRunner

import emimic
import emimic.sample
from emimic import cli, progress
from emimic.inference.inputs import STDIN, expand, read_standard_input
from emimic.inference.predictor import Predictor
from emimic.inference.results import Failure, Result, Results, VoiceSegment
from emimic.media import decode
from emimic.model.config import EmiConfig
from emimic.model.model import EmiModel
from emimic.output import formats, write
from emimic.output import terminal as table
from emimic.prediction import Prediction
from emimic.task import VAD, AudioError, EmimicWarning

TINY = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": [8] * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    EmiModel(EmiConfig(encoder_config=TINY)).save_pretrained(folder)
    return folder


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two real clips, a very short one, one beyond the cut, a text that calls itself mp3 and an empty file."""
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    clips = sorted((emimic.sample.get_folder() / "audio").glob("*.mp3"))
    shutil.copy(clips[0], folder / "b.mp3")
    shutil.copy(clips[1], folder / "deep" / "b.mp3")
    noise = np.random.default_rng(0).standard_normal(16_000 * 13).astype(np.float32) * 0.1
    soundfile.write(folder / "short.wav", noise[:100], 16_000)
    soundfile.write(folder / "long.wav", noise, 16_000)
    (folder / "text.mp3").write_text("not a sound")
    (folder / "empty.wav").touch()
    (folder / "notes.txt").write_text("not listed at all")
    return folder


def test_a_folder_gives_all_results_and_names_all_broken_files(run: Path, recordings: Path) -> None:
    results = Predictor(run).predict_files([recordings])
    assert [a.path.relative_to(recordings).as_posix() for a in results.clips] == [
        "b.mp3", "deep/b.mp3", "long.wav", "short.wav",
    ]  # fmt: skip
    assert {f.path.name for f in results.failed} == {"text.mp3", "empty.wav"}
    assert all(f.path.name in f.reason for f in results.failed)
    by_name = {a.path.name: a for a in results.clips}
    assert by_name["long.wav"].was_cut
    assert by_name["long.wav"].seconds == pytest.approx(13.0)
    assert by_name["short.wav"].was_padded
    assert len(by_name["short.wav"].prediction.times) == 1
    assert len(by_name["long.wav"].prediction.times) == 599


def test_a_result_does_not_depend_on_the_other_files(run: Path, recordings: Path) -> None:
    together = Predictor(run).predict_files([recordings])
    model = EmiModel.from_pretrained(run).eval()
    for result in together.clips:
        samples = decode.load(result.path)[: 12 * 16_000].astype(np.float64)
        normal = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        normal = np.pad(normal, (0, max(0, 400 - len(normal)))).astype(np.float32)
        with torch.no_grad():
            alone = model(torch.from_numpy(normal)[None]).intensities[0].numpy()
        np.testing.assert_allclose(result.prediction.intensities, alone, atol=1e-5)


def test_order_is_the_order_of_the_inputs_and_a_missing_file_is_a_failure(
    run: Path, recordings: Path
) -> None:
    files = [
        recordings / "short.wav",
        recordings / "nowhere.wav",
        recordings / "b.mp3",
        "http://example.org/a.wav",
    ]
    results = emimic.load(str(run)).predict_files(files)
    assert [a.path.name for a in results.clips] == ["short.wav", "b.mp3"]
    assert len(results.failed) == 2
    assert "nowhere.wav" in results.failed[0].reason


def test_expand_takes_files_as_they_are_and_only_media_from_folders(recordings: Path) -> None:
    actual = [p.name for p in expand([recordings / "notes.txt", recordings / "deep"])]
    assert actual == ["notes.txt", "b.mp3"]


def test_folders_are_searched_through_links_and_say_when_they_hold_nothing(
    recordings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    (folder / "nothing").mkdir(parents=True)
    (folder / "linked").symlink_to(recordings / "deep")
    (folder / "back").symlink_to(folder)
    (folder / "._b.mp3").write_bytes(b"a Mac's shadow of a file")
    assert list(expand([folder])) == [folder / "linked" / "b.mp3"]
    (empty,) = expand([folder / "nothing"])
    assert isinstance(empty, Failure)
    assert "holds no audio or video file" in empty.reason


def test_hidden_and_system_folders_are_passed_by(tmp_path: Path) -> None:
    for name in (
        "ok/x.mp3", ".Trash-1000/files/y.mp3", ".ipynb_checkpoints/y.mp3", "ok/._x.mp3", "__MACOSX/y.mp3",
        "@eaDir/y.mp3",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    actual = [tmp_path / "ok" / "x.mp3"]
    for one in ("", "*", "**", "**/*.mp3", "*/*.mp3", "ok/*"):
        assert list(expand([tmp_path / one])) == actual, one
    for named in (".Trash-1000", "__MACOSX/*.mp3", ".Trash*", ".ipynb_checkpoints/y.mp3"):
        assert [path.name for path in expand([tmp_path / named])] == ["y.mp3"], named


def test_one_name_is_one_file_and_not_its_letters(run: Path, recordings: Path) -> None:
    results = Predictor(run).predict_files(str(recordings / "b.mp3"))
    assert [a.path.name for a in results.clips] == ["b.mp3"]
    assert not results.failed


def test_a_model_that_is_no_folder_or_predicts_nan_is_an_error(
    run: Path, recordings: Path, tmp_path: Path
) -> None:
    with pytest.raises(emimic.EmimicError, match="no folder runs/typo"):
        Predictor("runs/typo")
    with pytest.raises(emimic.EmimicError, match=r"device '(cuda|abacus)' can't be used"):
        Predictor(run, device="abacus" if torch.cuda.is_available() else "cuda")
    model = EmiModel.from_pretrained(run)
    with torch.no_grad():
        model.head.out_proj.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "nan")
    with pytest.raises(emimic.EmimicError, match="NaN"):
        Predictor(tmp_path / "nan").predict_files([recordings / "b.mp3"])


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_shows_every_number_at_any_width(
    width: int,
    run: Path,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    results = Predictor(run).predict_files([recordings])
    table.show(results, "table")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    for result in results.clips:
        for value in result.prediction.intensities:
            assert f" {value:.2f} " in shown
    assert "first 12 s" in shown
    assert "padded" in shown


def test_csv_and_json_hold_the_results(run: Path, recordings: Path) -> None:
    results = Predictor(run).predict_files([recordings])
    rows = list(csv.reader(io.StringIO(formats.to_csv(results))))
    assert rows[0] == ["Filename", *emimic.EMOTIONS, "Basis", "Notes"]
    assert [row[0] for row in rows[1:]] == ["recordings/b.mp3", "deep/b.mp3", "long", "short"]
    written = np.array([[float(v) for v in row[1:7]] for row in rows[1:]])
    np.testing.assert_allclose(written, [a.prediction.intensities for a in results.clips], atol=1e-6)
    whole = json.loads(formats.to_json(results))
    assert whole["schema"] == "emimic/results/1"
    assert [c["was_cut"] for c in whole["clips"]] == [False, False, True, False]
    assert len(whole["failed"]) == 2
    assert "vad_mean" not in whole["clips"][0]  # this VAD head never learned VAD


def test_names_are_unique_and_short() -> None:
    nothing = Prediction(np.zeros(6, np.float32), None, np.zeros(1))

    def names(*paths: str) -> list[str]:
        clips = tuple(Result(Path(path), emimic.EMOTIONS, 1.0, False, False, nothing) for path in paths)
        return Results(emimic.EMOTIONS, clips, ()).names

    assert names("x/a.wav", "y/b.wav") == ["a", "b"]
    assert names("x/a.wav", "x/a.mp3", "x/b.mp3") == ["a.wav", "a.mp3", "b"]
    assert names("x/a.wav", "y/a.wav", "z/a.mp3") == ["x/a.wav", "y/a.wav", "a.mp3"]
    assert names("1/x/a.wav", "2/x/a.wav") == ["1/x/a.wav", "2/x/a.wav"]
    assert names() == []


def test_silence_has_no_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "quiet.wav", media_files.noise(1.0) * 1e-5, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", media_files.noise(1.0), 16_000)
    predictor = Predictor(fake_engine.Fake())
    results = predictor.predict_files([tmp_path], timeline=True)
    loud, quiet = results.clips
    assert (loud.was_silent, quiet.was_silent) == (False, True)
    assert np.isfinite(loud.prediction.intensities).all()
    assert np.isnan(quiet.prediction.intensities).all()
    assert quiet.prediction.vad is not None
    assert np.isnan(quiet.prediction.vad).all()
    assert quiet.marks == ["silent"]
    assert predictor(tmp_path / "quiet.wav").was_silent
    as_json = json.loads(formats.to_json(results))["clips"][1]
    assert as_json["was_silent"]
    assert set(as_json["intensities"].values()) == {None}
    rows = list(csv.reader(io.StringIO(formats.to_csv(results))))
    message = "silent (below -65 dB of full scale), so it has no values"
    assert rows[2] == ["quiet", *[""] * 9, "whole clip", message]
    assert as_json["notes"] == [message]
    table.show(Results(results.targets, (quiet,), ()), "table")
    shown = capsys.readouterr().out
    assert "silent" in shown
    assert not re.search(r"\bnan\b", shown)


def test_a_recording_in_which_no_voice_is_found_is_marked() -> None:
    predictor = Predictor(fake_engine.Fake())
    hiss = np.random.default_rng(0).standard_normal(32_000) * 0.01
    result = predictor(hiss, sample_rate=16_000)
    assert result.marks == []
    line = predictor.predict_timeline(hiss, sample_rate=16_000)
    assert line.voice_segments == ()
    assert replace(result, timeline=line).marks == ["no voice"]
    assert replace(result, timeline=replace(line, voice_segments=(VoiceSegment(0.0, 1.0),))).marks == []


@pytest.mark.parametrize("name", [None, "called so"])
def test_a_note_names_the_file_as_its_result_does(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", media_files.noise(1.0), 16_000)
    with (tmp_path / "a.wav").open("r+b") as file:
        file.truncate(20_000)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(EmimicWarning, match=f"^{name or 'a.wav'}: damaged"):
        result = Predictor(fake_engine.Fake())(f".{os.sep}a.wav", name=name)
    assert result.remarks == ["damaged or cut short; only 0.6236 s were readable and are used."]


def test_timelines_as_csv_have_a_row_per_step(recordings: Path) -> None:
    results = Predictor(fake_engine.Fake()).predict_files(
        [recordings / "b.mp3", recordings / "deep"], timeline=True
    )
    rows = list(csv.DictReader(io.StringIO(formats.to_steps_csv(results))))
    for name, result in zip(results.names, results.clips, strict=True):
        mine = [row for row in rows if row["Filename"] == name]
        line = result.timeline
        assert line is not None
        assert [float(row["Seconds"]) for row in mine] == pytest.approx(line.times.tolist(), abs=1e-4)
        joy = [float(row["Joy"] or "nan") for row in mine]
        np.testing.assert_allclose(joy, line.intensities[:, 5], atol=1e-6)
    assert list(rows[0]) == ["Filename", "Seconds", "Start", "End", *emimic.EMOTIONS, *VAD]
    assert formats.to_steps_csv(Results(emimic.EMOTIONS, (), ())) == "Filename\n"


def test_write_keeps_recordings_of_one_name_apart(recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = Predictor(fake_engine.Fake()).predict_files(
        [recordings / "b.mp3", recordings / "deep"], timeline=True
    )
    write.write_files(results, out, ["csv"], plot=True, html=True)
    names = {path.name for path in out.iterdir()}
    own = {f"{stem}.{kind}" for stem in ("b", "b-2") for kind in ("csv", "png", "svg", "html")}
    assert names == {"intensities.csv", "results.json", *own}
    assert (out / "b-2.png").read_bytes().startswith(b"\x89PNG")
    written = [(out / f"{stem}.html").read_text(encoding="utf-8") for stem in ("b", "b-2")]
    assert written[0] != written[1]


# Sources


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_file_its_bytes_and_its_samples_give_the_same_result(tmp_path: Path, rate: int) -> None:
    sound = np.stack([media_files.noise(13.0, rate), media_files.noise(13.0, rate, seed=1)], axis=1)
    sound = (sound * 32768).round().clip(-32768, 32767).astype(np.int16)
    path = tmp_path / "a.wav"
    soundfile.write(path, sound, rate)
    predictor = Predictor(fake_engine.Fake())
    from_file = predictor(path)
    assert from_file.path == path
    assert from_file.seconds == pytest.approx(13.0)
    assert from_file.was_cut
    same = [
        predictor(str(path)),
        predictor(path.read_bytes(), name="a"),
        predictor(sound, sample_rate=rate),
        predictor(sound / 32768.0, sample_rate=rate),
        predictor.predict_files(path).clips[0],
    ]
    for result in same:
        assert (result.seconds, result.was_cut) == (from_file.seconds, True)
        np.testing.assert_allclose(result.prediction.intensities, from_file.prediction.intensities, atol=1e-6)
    assert same[1].path == Path("a")
    assert same[2].path == Path("<array>")
    lines = [
        predictor.predict_timeline(path),
        predictor.predict_timeline(sound, sample_rate=rate),
        predictor.predict_timeline(path.read_bytes()),
    ]
    for line in lines:
        np.testing.assert_allclose(line.intensities, lines[0].intensities, atol=1e-6)
    assert lines[0].name == "a"
    assert lines[0].seconds == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda p: p("nowhere.wav"), r"nowhere\.wav: does not exist"),
        (
            lambda p: p("https://example.org/a.wav"),
            r"https://example\.org/a\.wav: is a URL; download it first",
        ),
        (lambda p: p(b""), "empty"),
        (lambda p: p(np.zeros(10)), "give sample_rate"),
        (lambda p: p("a.wav", sample_rate=8_000), "leave sample_rate out"),
        (lambda p: p(np.zeros((2, 9_000)), sample_rate=8_000), "transposed"),
        (lambda p: p(np.array([np.nan]), sample_rate=8_000), "NaN"),
        (lambda p: p(np.empty(0), sample_rate=8_000), "no samples"),
        (lambda p: p.predict_timeline(np.empty(0), sample_rate=8_000), "no samples"),
        (lambda p: p.predict_timeline("nowhere.wav"), "does not exist"),
    ],
)
def test_unusable_sources_are_named(predict: Callable[[Predictor], Any], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        predict(Predictor(fake_engine.Fake()))


def test_files_with_timelines(recordings: Path) -> None:
    predictor = Predictor(fake_engine.Fake())
    plain = predictor.predict_files([recordings])
    results = predictor.predict_files([recordings], timeline=True, window=1.0, hop=0.5)
    assert [f.path for f in results.failed] == [f.path for f in plain.failed]
    for result, without in zip(results.clips, plain.clips, strict=True):
        np.testing.assert_array_equal(result.prediction.intensities, without.prediction.intensities)
        assert without.timeline is None
        assert result.timeline is not None
        assert result.timeline.seconds == result.seconds
        alone = predictor.predict_timeline(result.path, window=1.0, hop=0.5)
        np.testing.assert_array_equal(result.timeline.intensities, alone.intensities)
    with pytest.raises(emimic.EmimicError, match="hop 3 s"):
        predictor.predict_files([recordings], timeline=True, hop=3.0)


def test_the_failures_keep_the_order_of_the_inputs(recordings: Path) -> None:
    given = [
        "http://a.b/c.wav",
        recordings / "b.mp3",
        "gone/*.wav",
        recordings / "empty.wav",
        "gone.wav",
        recordings,
    ]
    results = Predictor(fake_engine.Fake()).predict_files(given)
    assert [f.path.name for f in results.failed] == [
        "c.wav",
        "*.wav",
        "empty.wav",
        "gone.wav",
        "text.mp3",
    ]
    assert [a.path.name for a in results.clips] == ["b.mp3", "b.mp3", "long.wav", "short.wav"], (
        "each file once"
    )
    assert "URLs are never fetched: download it first" in results.failed[0].reason
    assert results.failed[0].reason.startswith("http://a.b/c.wav:")


def test_patterns(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recordings)
    assert [str(p) for p in expand(["*.wav"])] == ["empty.wav", "long.wav", "short.wav"]
    assert [str(p) for p in expand(["**/b.mp3"])] == ["b.mp3", "deep/b.mp3"]
    assert [str(p) for p in expand(["*"])] == [
        "b.mp3",
        "deep/b.mp3",
        "empty.wav",
        "long.wav",
        "short.wav",
        "text.mp3",
    ]
    assert [str(p) for p in expand([str(recordings / "notes.*")])] == [str(recordings / "notes.txt")]
    (recordings / "take[1].wav").touch()
    assert [str(p) for p in expand(["take[1].wav"])] == ["take[1].wav"]  # a name that looks like a pattern
    (none,) = expand(["*.aiff"])
    assert isinstance(none, Failure)
    assert "no file matches" in none.reason


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    def pipe(content: bytes) -> None:
        read_standard_input.cache_clear()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return pipe


def test_standard_input(
    piped: Callable[[bytes], None], recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(fake_engine.Fake())
    piped((recordings / "b.mp3").read_bytes())
    results = predictor.predict_files(["-"], timeline=True)
    assert [a.path for a in results.clips] == [STDIN]
    expected = predictor(recordings / "b.mp3")
    np.testing.assert_array_equal(results.clips[0].prediction.intensities, expected.prediction.intensities)
    piped(b"")
    assert "<stdin>: is empty" in predictor.predict_files("-").failed[0].reason
    piped(b"")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert "nothing is piped in" in predictor.predict_files("-").failed[0].reason


def test_a_long_recording_is_never_held_whole(tmp_path: Path) -> None:
    import tracemalloc

    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 240, np.int16), 16_000)  # 15 MB as float32
    predictor = Predictor(fake_engine.Fake())
    predictor.predict_timeline(fake_engine.burst(3.0), sample_rate=16_000)
    tracemalloc.start()
    (result,) = predictor.predict_files(tmp_path / "long.flac", timeline=True).clips
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.seconds == 240
    assert result.timeline is not None
    assert np.isnan(result.timeline.intensities).all()
    assert result.timeline.voice_segments == ()
    assert peak < 10e6


# The table


def test_the_table_escapes_names_and_draws_timelines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sound = fake_engine.recording(("burst", 2.0), ("hush", 4.0), ("burst", 2.0))
    soundfile.write(tmp_path / "[red]a\x1b.wav", sound, 16_000)
    results = Predictor(fake_engine.Fake()).predict_files(tmp_path, timeline=True)
    table.show(results, "table")
    shown = capsys.readouterr().out
    assert "[red]a�" in shown
    line = next(line for line in shown.splitlines() if "▂" in line or "▁" in line)
    assert re.search(r"[▁-█] +[▁-█]", line)  # silence is a gap
    assert progress.draw_bar(0.5) == "████····"
    assert progress.draw_bar(-3.0) == "········"
    assert progress.draw_bar(float("nan")).strip() == ""
    assert table.draw_line(np.array([0.0, 1.0, np.nan, 0.5])) == "▁█ ▅"


def test_hostile_files_change_no_other_result(run: Path, tmp_path: Path) -> None:
    """58 files that can't be used and a real clip cut at every KiB stand between good clips."""
    clips = sorted((emimic.sample.get_folder() / "audio").glob("*.mp3"))[:4]
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, clip in enumerate(clips):
        shutil.copy(clip, folder / f"{number}-good.mp3")
    for number, (make, _) in enumerate(HOSTILE.values()):
        (folder / f"{number % 5}-hostile-{number}.wav").write_bytes(make())
    whole = clips[0].read_bytes()
    for size in range(1024, len(whole), 1024):
        (folder / f"2-cut-{size}.mp3").write_bytes(whole[:size])
    assert len(list(folder.iterdir())) > 4 + 60
    results = Predictor(run).predict_files([folder])
    expected = Predictor(run).predict_files(clips)
    good = [a for a in results.clips if "good" in a.path.name]
    assert len(good) == 4
    noted = {a.path.name for a in results.clips if any("damaged or cut short" in note for note in a.notes)}
    assert noted
    assert all(name.startswith("2-cut") for name in noted)
    for one, alone in zip(good, expected.clips, strict=True):
        np.testing.assert_allclose(one.prediction.intensities, alone.prediction.intensities, atol=1e-5)
    assert {f.path.name for f in results.failed} >= {p.name for p in folder.glob("*hostile*")}
    assert all(f.path.name in f.reason for f in results.failed)
    assert len(results.clips) + len(results.failed) == len(list(folder.iterdir()))
    assert all(np.isfinite(a.prediction.intensities).all() for a in results.clips)


# The command line


def invoke(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli.app, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_predict_prints_each_format_and_says_what_failed(run: Path, recordings: Path, tmp_path: Path) -> None:
    table = invoke("predict", recordings, "--model", run, "--quiet", code=1)
    assert "4 predicted, 2 failed" in table
    assert "text.mp3" in table
    printed = CliRunner().invoke(cli.app, ["predict", str(recordings / "b.mp3"), "-m", str(run), "-f", "csv"])
    assert printed.stdout.startswith("Filename,Admiration")
    assert len(printed.stdout.splitlines()) == 2  # nothing but the CSV, though the bar was on
    shown = invoke("predict", recordings / "b.mp3", "-m", run, "-f", "json", "-o", tmp_path / "o", "-q")
    assert '"schema": "emimic/results/1"' in shown
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "results.json", "intensities.csv", "journal.jsonl",
    }  # fmt: skip


def test_plots_reports_and_formats_go_to_a_folder(
    run: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--plot", "--html", "--formats", "JSON, textgrid", "--window", "1", "--hop", "0.5", "-q"]
    shown = invoke("predict", recordings / "long.wav", "-m", run, *words)
    assert "files are in emimic-out" in shown
    assert "values of 1 recording over 12 s are about the first 12 s only; no voice is in them" in shown
    names = {path.name for path in (tmp_path / "emimic-out").iterdir()}
    kinds = {"png", "svg", "html", "json", "TextGrid"}
    assert names == {"results.json", "intensities.csv", "journal.jsonl", *(f"long.{kind}" for kind in kinds)}
    (clip,) = json.loads((tmp_path / "emimic-out" / "results.json").read_text())["clips"]
    assert clip["timeline"]["hop"] == 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give files, folders or -"),
        (["a.wav", "--mic", "3"], "either files or --mic"),
        (["a.wav", "--formats", "docx"], "no format is called 'docx'"),
        (["a.wav", "--formats", ""], "no format is called ''"),
        (["a.wav", "--hop", "9"], "hop 9 s"),
        (["a.wav", "--timeline", "--hop", "9"], "hop 9 s"),
        (["a.wav", "--model", "nowhere"], "nowhere"),
    ],
)
def test_invalid_requests_are_reported_before_the_work(
    run: Path, words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["predict", *words] if "--model" in words else ["predict", *words, "--model", str(run)]
    with pytest.raises(emimic.EmimicError, match=message):
        CliRunner().invoke(cli.app, given, catch_exceptions=False)
    assert not list(tmp_path.iterdir())


def test_warnings_are_one_line_that_names_the_file(run: Path, tmp_path: Path) -> None:
    whole = sorted((emimic.sample.get_folder() / "audio").glob("*.mp3"))[0].read_bytes()
    (tmp_path / "short.mp3").write_bytes(whole[: len(whole) // 2])
    shown = subprocess.run(
        [sys.executable, "-m", "emimic", "predict", tmp_path / "short.mp3", "--model", run, "--format", "csv"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(shown.stdout.splitlines()) == 2
    (line,) = [line for line in shown.stderr.splitlines() if "cut short" in line]
    assert line.startswith("emimic: ")
    assert "short.mp3" in line


def test_help_names_every_verb_and_each_verb_has_an_example() -> None:
    text = invoke("--help")
    verbs = ("prepare", "train", "evaluate", "predict", "submit")
    for verb in verbs:
        assert verb in text
        assert f"Example: emimic {verb} " in " ".join(invoke(verb, "--help").split())
    assert emimic.__version__ in invoke("--version")


def test_errors_are_one_line_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["emimic", "predict", "a.wav", "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert "is no model" in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("EMIMIC_DEBUG", "1")
    with pytest.raises(emimic.EmimicError):
        cli.main()


def test_the_whole_way_on_the_command_line(undrawn: None, tmp_path: Path) -> None:
    """train, evaluate, submit, predict: the four commands, on the sample, with a tiny encoder for one epoch."""
    corpus, out = emimic.sample.get_folder(), tmp_path / "run"
    config = tmp_path / "tiny.yaml"
    config.write_text("encoder_config: " + json.dumps(TINY) + "\nepochs: 1\nlr: 1.0e-3\n")
    shown = invoke("train", corpus, "--out", out, "--config", config, "--set", "threads=1", "--quiet")
    assert "validation Pearson; the model of epoch" in shown
    assert "Pearson" in invoke("evaluate", out, corpus, "--split", "test", "--bootstrap", 50, "--quiet")
    invoke("submit", out, corpus, "--out", tmp_path / "s.csv", "--quiet")
    rows = (tmp_path / "s.csv").read_text().splitlines()
    assert len(rows) == 29
    assert all(0.0 <= float(v) <= 1.0 for row in rows[1:] for v in row.split(",")[1:])
    listed = invoke("predict", corpus / "audio", "--model", out, "--format", "csv", "--quiet")
    assert len(listed.splitlines()) == 140 + 1 + 1  # and the summary


def test_import_is_light() -> None:
    """`import emimic` and `--help` bring no torch."""
    heavy = {"torch", "transformers", "pandas", "matplotlib", "av"}
    code = f"import sys, emimic, emimic.cli; print(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
    with pytest.raises(AttributeError, match="nonsense"):
        emimic.nonsense  # noqa: B018
    assert emimic.EmiModel is EmiModel
