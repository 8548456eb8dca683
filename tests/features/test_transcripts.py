"""What is said, when, and what it means to a text encoder."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from json_schema import keeps
from safetensors.torch import load_file, save_file
from tiny_transcribers import WORDS, bert, whisper
from transformers import (
    AutoModel,
    BertModel,
    T5Config,
    T5EncoderModel,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from typer.testing import CliRunner

from emimic.cli import app
from emimic.features import store
from emimic.features.extract import extract
from emimic.model.backbones import load_pretrained
from emimic.task import CorpusError, ModelError

# transformers takes the std of one token's times where only one was said; the command line is silent about it.
pytestmark = pytest.mark.filterwarnings("ignore:std.*degrees of freedom:UserWarning")

LENGTHS = {"00001": 48_000, "00002": 16_000, "00003": 800}


@pytest.fixture(scope="module")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    for clip, samples in LENGTHS.items():
        pitch = 300 + 400 * rng.random()
        tone = 0.3 * np.sin(2 * np.pi * pitch * np.arange(samples) / 16_000) + 0.05 * rng.standard_normal(
            samples
        )
        soundfile.write(tmp_path / f"audio/{clip}.wav", tone, 16_000, "FLOAT")
    (tmp_path / "audio/00004.wav").write_bytes(b"broken")
    return tmp_path


def say(corpus: Path, clip: str, words: list[tuple[str, float, float]], name: str = "transcripts") -> None:
    folder = corpus / "features" / name
    folder.mkdir(parents=True, exist_ok=True)
    transcript = {
        "id": clip,
        "words": [{"word": word, "start": start, "end": end} for word, start, end in words],
    }
    (folder / f"{clip}.json").write_text(json.dumps(transcript))


def test_words_are_those_of_whisper_within_the_clip(corpus: Path, tiny_whisper: Path) -> None:
    (report,) = extract(corpus, "transcripts", model=str(tiny_whisper), overrides={"language": "en"})
    assert report.made == tuple(LENGTHS)
    assert list(report.failed) == ["00004"]
    model = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(tiny_whisper)
    tokenizer = WhisperTokenizer.from_pretrained(tiny_whisper)
    for clip, samples in LENGTHS.items():
        transcript = json.loads((corpus / f"features/transcripts/{clip}.json").read_text())
        keeps("features/transcript_schema.json", transcript)
        assert transcript["id"] == clip
        inputs = extractor(
            soundfile.read(corpus / f"audio/{clip}.wav")[0], sampling_rate=16_000, return_tensors="pt"
        )
        tokens = model.generate(
            inputs.input_features, language="en", task="transcribe", return_timestamps=True, num_beams=5
        )
        letters = [token for token in tokens[0].tolist() if token < 256]
        assert letters
        assert transcript["text"] == tokenizer.decode(letters)
        assert "".join(word["word"] for word in transcript["words"]) == transcript["text"]
        times = [time for word in transcript["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= samples / 16_000
    again = extract(corpus, "transcripts", model=str(tiny_whisper), overrides={"language": "en"})[0]
    assert again.skipped == tuple(LENGTHS)
    with pytest.raises(CorpusError, match="holds other features"):
        extract(corpus, "transcripts", model=str(tiny_whisper), overrides={"language": "de"})


def test_a_clip_that_whisper_fails_on_costs_only_itself(
    corpus: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WhisperForConditionalGeneration.generate

    def fail(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return real(self, *args, **kwargs)

    calls: list[int] = []
    monkeypatch.setattr(WhisperForConditionalGeneration, "generate", fail)
    (report,) = extract(corpus, "transcripts", model=str(tiny_whisper))
    assert len(report.made) == 2
    assert any(reason.endswith("fails: out of memory") for reason in report.failed.values())


def test_a_model_that_always_fails_is_not_tried_on_every_clip(
    corpus: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        calls.append(1)
        time.sleep(0.01)
        raise IndexError("index out of range")

    def run() -> Any:
        calls.clear()
        return CliRunner().invoke(
            app, ["features", str(corpus), "--kind", "text", "-m", str(tiny_bert), "-q"]
        )

    calls: list[int] = []
    for number in range(1, 4):
        say(corpus, f"{number:05d}", [(" so", 0, 1)])
    with monkeypatch.context() as broken:
        broken.setattr(BertModel, "forward", fail)
        done = run()
        assert str(done.exception).count("fails: index out of range; so it does on every clip (3 tried)") == 1
        for number in range(4, 200):
            say(corpus, f"{number:05d}", [(" so", 0, 1)])
        done = run()
        assert isinstance(done.exception, ModelError)  # exit code 2
        assert "(20 tried)" in str(done.exception)
        assert len(calls) < 150
    # Of a model that made features of others, a clip that it fails on costs only itself.
    (corpus / "features/transcripts/00003.json").unlink()
    for number in range(4, 200):
        (corpus / f"features/transcripts/{number:05d}.json").unlink()
    assert run().exit_code == 0
    say(corpus, "00009", [(" so", 0, 1)])
    monkeypatch.setattr(BertModel, "forward", fail)
    done = run()
    assert done.exit_code == 1
    assert "2 were there, 1 failed" in done.output


def test_a_frame_of_text_is_a_token_at_the_time_of_its_word(corpus: Path, tiny_bert: Path) -> None:
    say(corpus, "00001", [(" Well", 0.5, 0.7), (" done!", 0.7, 1.1), (" Sorryed", 2.0, 2.6)])
    say(corpus, "00002", [])
    (report,) = extract(corpus, "text", model=str(tiny_bert))
    assert report.made == ("00001", "00002")
    index = store.index(corpus / "features/text")
    frames = store.read(index["1"], "00001")
    ids = [2, *(4 + WORDS.index(word) for word in ("well", "done", "!", "sorry", "##ed")), 3]
    with torch.inference_mode():
        wanted = AutoModel.from_pretrained(tiny_bert).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    np.testing.assert_allclose(frames.values, wanted[1:-1], atol=1e-5)
    np.testing.assert_allclose(frames.times, [0.6, 0.9, 0.9, 2.3, 2.3])
    assert frames.present.all()
    silent = store.read(index["2"], "00002")
    assert silent.values.shape == (1, 16)
    assert not silent.present.any()


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_a_clip_may_be_one_frame(corpus: Path, tiny_bert: Path, pool: str) -> None:
    say(corpus, "00001", [(" Wow", 1.0, 1.5), (".", 1.5, 3.0)], "spoken")
    given = {"pool": pool, "transcripts": "spoken"}
    (report,) = extract(corpus, "text", name="one", model=str(tiny_bert), overrides=given)
    frames = store.read(store.index(report.folder)["1"], "1")
    ids = [2, 4 + WORDS.index("wow"), 4 + WORDS.index("."), 3]
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(tiny_bert).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()
    wanted = hidden.mean(axis=0) if pool == "mean" else hidden[0]
    np.testing.assert_allclose(frames.values, wanted[None], atol=1e-5)
    np.testing.assert_allclose(frames.times, [2.0])


def test_a_long_transcript_is_cut_and_said_to_be(corpus: Path, tiny_bert: Path) -> None:
    say(corpus, "00001", [(" so", k, k + 1.0) for k in range(30)])
    say(
        corpus, "00002", [(" so", k, k + 1.0) for k in range(10)]
    )  # with the two ends just what BERT has places for
    (report,) = extract(corpus, "text", model=str(tiny_bert))
    assert list(report.warnings) == ["00001: only the first 12 tokens of its transcript are used"]
    frames = store.read(store.index(report.folder)["1"], "1")
    np.testing.assert_allclose(frames.times, np.arange(10) + 0.5)


def test_what_cannot_be_used_is_named(corpus: Path, tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no transcripts; make them"):
        extract(corpus, "text", model=str(tiny_bert))
    with pytest.raises(ModelError, match="can't be loaded as a Whisper model"):
        extract(corpus, "transcripts", model=str(tiny_bert))
    say(corpus, "00001", [(" so", 0, 1)])
    with pytest.raises(ModelError, match="nowhere: no such folder"):
        extract(corpus, "text", model=str(tmp_path / "nowhere"))
    (corpus / "features/transcripts/00001.json").write_text('{"id": 1}')
    with pytest.raises(CorpusError, match=r"00001\.json can't be read"):
        extract(corpus, "text", model=str(tiny_bert))


def without(model: Path, folder: Path, *parts: str) -> Path:
    """A copy of a model without the weights, and without the files, that have these parts in their names."""
    shutil.copytree(model, folder, ignore=lambda _, names: [n for n in names if any(p in n for p in parts)])
    kept = {k: v for k, v in load_file(model / "model.safetensors").items() if not any(p in k for p in parts)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_weights_that_are_missing_are_never_drawn_at_random(
    corpus: Path, tiny_bert: Path, tiny_whisper: Path, tmp_path: Path
) -> None:
    say(corpus, "00001", [(" so", 0, 1)])
    incomplete = without(tiny_bert, tmp_path / "incomplete", "layer.1.attention.self.key")
    message = (
        r"weights of a text encoder are missing.*: encoder\.layer\.1\.attention\.self\.key\.bias, encoder"
    )
    with pytest.raises(ModelError, match=message):
        extract(corpus, "text", model=str(incomplete))
    config = json.loads((incomplete / "config.json").read_text())
    other = without(tiny_bert, tmp_path / "other")
    (other / "config.json").write_text(json.dumps(config | {"intermediate_size": 20}))
    message = r"encoder\.layer\.0\.intermediate\.dense\.weight \(24, 16\) instead of \(20, 16\)"
    with pytest.raises(ModelError, match=message):
        extract(corpus, "text", model=str(other))
    # What only stands behind the last hidden states may be missing, and then decides nothing.
    plain = str(without(tiny_bert, tmp_path / "plain", "pooler"))
    (report,) = extract(corpus, "text", model=plain)
    assert report.made == ("00001",)
    assert extract(corpus, "text", model=plain)[0].skipped == ("00001",)
    wanted = extract(corpus, "text", name="whole", model=str(tiny_bert))[0].folder / "00001.safetensors"
    np.testing.assert_array_equal(
        store.read(report.folder / "00001.safetensors", "1").values, store.read(wanted, "1").values
    )
    T5EncoderModel(
        T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ).save_pretrained(tmp_path / "t5")
    config = json.loads((tmp_path / "t5/config.json").read_text())
    (tmp_path / "t5/config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    assert load_pretrained(AutoModel, str(tmp_path / "t5"), "a text encoder").get_encoder() is not None
    encoder = without(tiny_whisper, tmp_path / "encoder", "decoder", "proj_out")
    message = r"weights of a Whisper model are missing.*: model\.decoder\.embed_positions\.weight"
    with pytest.raises(ModelError, match=message):
        extract(corpus, "transcripts", name="x", model=str(encoder))
    mute = without(tiny_whisper, tmp_path / "mute", "tokenizer", "vocab", "merges", "added_tokens")
    with pytest.raises(ModelError, match="mute has no tokenizer; expected Whisper's"):
        extract(corpus, "transcripts", name="x", model=str(mute))
    assert not (corpus / "features/x").exists()
