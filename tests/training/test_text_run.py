"""Runs with words: the text branch learns what the voice doesn't hold, resumes, scores, predicts and is exported."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from json_schema import keeps
from tiny_transcribers import bert, whisper
from tone_corpus import STILL
from word_corpus import make_corpus

from emimic import metrics
from emimic.cli import predict_request
from emimic.cli.predict_request import Request
from emimic.data.corpus import load_corpus
from emimic.data.transcripts import add_texts
from emimic.evaluation.evaluate import evaluate
from emimic.export.export import export
from emimic.inference.engine import GraphEngine
from emimic.inference.predictor import Predictor
from emimic.inference.words import WordSource
from emimic.task import CorpusError, ModelError, SettingsError
from emimic.training import loop
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

# transformers takes the std of one token's times where only one was said; the command line is silent about it.
pytestmark = pytest.mark.filterwarnings("ignore:std.*degrees of freedom:UserWarning")

NARROW = {"conv_dim": [4] * 7, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "words", silent=6)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("bert"))


def settings(encoder: Path | None, **changes: Any) -> TrainSettings:
    text = None if encoder is None else {"encoder": str(encoder), "dropout": 0.1}
    given = {
        "encoder_config": {**STILL, **NARROW}, "encoder": None, "text": text, "epochs": 25, "batch_size": 16,
        "lr": 5e-3, "lstm_layers": 1, "threads": 1, "patience": None, "checkpoint_steps": 10_000,
    }  # fmt: skip
    return TrainSettings(**{**given, **changes})


@pytest.fixture(scope="module")
def run(corpus: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "words"
    train(corpus, out, settings(encoder), show=False)
    return out


def score(run: Path, corpus: Path, **options: Any) -> float:
    """Mean Pearson on the held-out clips that have words."""
    return evaluate(run, corpus, n_bootstrap=2, progress=False, draw=False, **options).mean_pearson


def test_the_text_branch_learns_what_the_voice_does_not_hold(run: Path, corpus: Path, tmp_path: Path) -> None:
    spoken = [item.text is not None for item in add_texts(load_corpus(corpus)).splits["valid"].items]
    labels = load_corpus(corpus).splits["valid"].labels
    evaluate(run, corpus, n_bootstrap=2, progress=False, draw=False, out=tmp_path / "scores")
    table = np.genfromtxt(tmp_path / "scores" / "predictions.csv", delimiter=",", skip_header=1)[:, 1:]
    assert metrics.compute_pearson(table[spoken], labels[spoken]).mean() > 0.8
    # Without the words, the voice alone has nothing to say; both can be reported.
    voice = evaluate(run, corpus, n_bootstrap=2, progress=False, draw=False, without=("text",))
    assert voice.written[0].parent.name == "valid-without-text"
    assert abs(voice.mean_pearson) < 0.4
    with pytest.raises(SettingsError, match="beside its voice are text"):
        evaluate(run, corpus, progress=False, without=("vision",))
    # A clip without words has a prediction, which is about the mean of all.
    assert np.isfinite(table).all()
    silent = table[~np.array(spoken)]
    assert np.abs(silent - labels.mean(axis=0)).max() < 0.35
    # The voice alone, trained in the same way, has nothing to learn from.
    train(corpus, tmp_path / "voice", settings(None, epochs=3), show=False)
    assert score(tmp_path / "voice", corpus, out=tmp_path / "voice-scores") < 0.4


def test_permuting_the_clips_files_changes_nothing(run: Path, corpus: Path, tmp_path: Path) -> None:
    """Words belong to the id, not to a place in a table or a folder."""
    other = tmp_path / "other"
    shutil.copytree(corpus, other)
    header, *rows = (other / "valid_split.csv").read_text().splitlines()
    (other / "valid_split.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")
    for file in (other / "transcripts").iterdir():
        file.rename(file.with_name(f"{int(file.stem):05d}.txt"))
    for folder, name in ((corpus, "a"), (other, "b")):
        evaluate(run, folder, n_bootstrap=2, progress=False, draw=False, out=tmp_path / name)
    first, second = (
        dict(line.split(",", 1) for line in (tmp_path / name / "predictions.csv").read_text().splitlines())
        for name in ("a", "b")
    )
    assert first.keys() == second.keys()
    for clip in first.keys() - {"Filename"}:
        old, new = (np.array(table[clip].split(","), float) for table in (first, second))
        np.testing.assert_allclose(new, old, atol=1e-5)


def test_a_resumed_run_ends_with_the_same_weights(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "corpus", train=40, valid=6)
    short = settings(encoder, epochs=2)
    train(corpus, tmp_path / "whole", short, show=False)
    calls: list[int] = []

    def stop(run: Any) -> int | None:
        calls.append(1)
        return signal.SIGTERM if len(calls) == 4 else None

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_agree_on_signal", stop)
        assert train(corpus, tmp_path / "parts", short, show=False).signal == signal.SIGTERM
    assert train(corpus, tmp_path / "parts", None, resume=True, show=False).signal is None
    whole, parts = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
    (corpus / "transcripts" / "10.txt").write_text("so so so so so so", encoding="utf-8")
    with pytest.raises(CorpusError, match="clips or labels differ"):
        train(corpus, tmp_path / "parts", None, resume=True, show=False)


def test_predict_says_which_words_it_used_and_can_leave_them_out(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = corpus / "audio" / "00097.wav"  # the first of valid, without words; 103 is the first with some
    spoken = corpus / "audio" / "00103.wav"
    request = Request(
        files=(str(clip), str(spoken)), model=run, form="json", out=tmp_path / "out",
        words=WordSource(corpus / "transcripts"), threads=1, streams=1,
    )  # fmt: skip
    lines: list[str] = []
    results = predict_request.run(request, lines.append)
    document = json.loads(capsys.readouterr().out)
    keeps("output/formats/schema.json", document)
    silent, with_words = document["clips"]
    assert "words" not in silent
    text = (corpus / "transcripts" / "103.txt").read_text()
    assert with_words["words"] == {"text": text, "source": str(corpus / "transcripts" / "103.txt")}
    assert any("the model takes the words too, from" in line for line in lines)
    for line in (tmp_path / "out" / "journal.jsonl").read_text().splitlines():
        keeps("inference/journal_schema.json", json.loads(line))
    assert predict_request.run(request, lines.append).to_dict() == results.to_dict()  # from the journal
    voice = Predictor(run, words=None, without=("text",), threads=1)
    alone = [voice(path).prediction.intensities for path in (clip, spoken)]
    np.testing.assert_allclose(results.clips[0].prediction.intensities, alone[0], atol=1e-5)
    assert np.abs(results.clips[1].prediction.intensities - alone[1]).max() > 0.02
    # The words and values are those of evaluate.
    evaluate(run, corpus, n_bootstrap=2, progress=False, draw=False, out=tmp_path / "scores")
    rows = (tmp_path / "scores" / "predictions.csv").read_text().splitlines()
    row = next(row for row in rows if row.startswith("00103,"))
    np.testing.assert_allclose(
        results.clips[1].prediction.intensities, np.array(row.split(",")[1:], float), atol=1e-5
    )
    unnamed = Predictor(run, threads=1)
    with pytest.raises(SettingsError, match="found no source of words"):
        unnamed(spoken)
    timeline = unnamed.predict_timeline(spoken, voice_segments=False)  # of the voice alone
    assert np.isfinite(timeline.intensities).all()
    with pytest.raises(SettingsError, match="without names vision; expected text"):
        Predictor(run, without=("vision",))


def test_an_exported_model_takes_the_same_words(run: Path, corpus: Path, tmp_path: Path) -> None:
    report = export(run, tmp_path / "exported")
    assert report.difference < 1e-4
    keeps("inference/engine_schema.json", json.loads((tmp_path / "exported" / "engine.json").read_text()))
    files = sorted((corpus / "audio").glob("*.wav"))[-8:]
    words = WordSource(corpus / "transcripts")
    graph = Predictor(tmp_path / "exported", words=words, threads=1)
    assert isinstance(graph.engine, GraphEngine)
    found = graph.predict_files(files).clips
    wanted = Predictor(run, words=words, threads=1).predict_files(files).clips
    for new, old in zip(found, wanted, strict=True):
        assert new.speech == old.speech
        np.testing.assert_allclose(new.prediction.intensities, old.prediction.intensities, atol=1e-5)
    voice = Predictor(tmp_path / "exported", without=("text",), threads=1)(files[0])
    assert np.abs(voice.prediction.intensities - found[0].prediction.intensities).max() > 0.02
    with pytest.raises(ModelError, match="int8 is calibrated on recordings alone"):
        export(run, tmp_path / "int8", int8=True, calibrate=corpus / "audio")


def test_a_run_transcribes_with_the_transcriber_that_it_names(
    corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    source = str(whisper(tmp_path / "whisper"))
    text = {"encoder": str(encoder), "freeze": True, "pool": "cls", "transcriber": source, "language": "en"}
    train(corpus, tmp_path / "run", settings(None, text=text, epochs=1), show=False)
    predictor = Predictor(tmp_path / "run", threads=1)
    result = predictor(corpus / "audio" / "00103.wav")
    assert result.speech is not None
    assert result.speech.source == source
    assert result.speech.text
    assert torch.isfinite(torch.from_numpy(result.prediction.intensities)).all()


def test_what_changes_a_clip_but_not_its_words_is_refused(encoder: Path) -> None:
    with pytest.raises(SettingsError, match="text and lengths are both set"):
        settings(encoder, lengths=0.5)
