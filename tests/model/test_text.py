"""The text branch: its vectors equal transformers' own, whatever shares the batch, and a model folder is complete."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_transcribers import bert
from tone_corpus import STILL
from transformers import AutoModel, AutoTokenizer

from emimic.export.export import export
from emimic.inference.engine import GraphEngine
from emimic.model import text
from emimic.model.config import EmiConfig
from emimic.model.inputs import Inputs
from emimic.model.model import EmiModel
from emimic.model.settings import TextSettings
from emimic.task import ModelError, SettingsError

TEXTS = ("well done", "wow", "I am so sorry!", None, "  ", "so so so so so so so so so so so so so so so")


@pytest.fixture(scope="module", params=["bert", "roberta"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("text"), family=request.param)


def make_branch(source: Path, **settings: Any) -> text.Text:
    chosen = TextSettings(encoder=str(source), **settings)
    branch = text.build(text.make_config(chosen))
    branch.fill(chosen)
    return branch.eval()


def make_model(source: Path, **settings: Any) -> EmiModel:
    chosen = TextSettings(encoder=str(source), **settings)
    torch.manual_seed(0)
    model = EmiModel(EmiConfig(encoder_config=dict(STILL), text=text.make_config(chosen), vad_learned=True))
    model.branches["text"].fill(chosen)  # type: ignore[operator]
    with torch.no_grad():
        model.branches["text"].missing.normal_()  # type: ignore[operator, union-attr]
    return model.eval()


def make_clips(model: EmiModel) -> list[Inputs]:
    rng = np.random.default_rng(0)
    tokenize: Any = model.branches["text"].tokenize
    return [
        Inputs(rng.standard_normal(900 + 700 * i).astype(np.float32), {"text": tokenize(sentence)})
        for i, sentence in enumerate(TEXTS)
    ]


@pytest.mark.parametrize("pool", ["mean", "cls"])
@torch.no_grad()
def test_vectors_are_those_of_transformers(source: Path, pool: str) -> None:
    branch = make_branch(source, pool=pool)
    tokenizer, model = AutoTokenizer.from_pretrained(source), AutoModel.from_pretrained(source).eval()
    limit = 12 - (model.config.model_type == "roberta")  # RoBERTa's first position is after that of padding
    for sentence in TEXTS:
        tokens = branch.tokenize(sentence)
        vector = branch(*branch.collate([tokens]))[0]
        if sentence is None or not sentence.strip():
            assert not len(tokens)
            torch.testing.assert_close(vector, branch.missing)
            continue
        given = tokenizer(sentence, truncation=True, max_length=limit, return_tensors="pt")
        np.testing.assert_array_equal(tokens, given["input_ids"][0].numpy())
        hidden = model(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"]
        ).last_hidden_state[0]
        torch.testing.assert_close(
            vector, hidden.mean(dim=0) if pool == "mean" else hidden[0], atol=1e-6, rtol=0
        )


def test_other_clips_of_a_batch_change_nothing(source: Path) -> None:
    model = make_model(source)
    clips = make_clips(model)
    together = model.predict(clips, batch_seconds=60)
    for clip, joined in zip(clips, together, strict=True):
        alone = model.predict([clip])[0]
        np.testing.assert_allclose(joined.intensities, alone.intensities, atol=1e-5)
        assert alone.vad is not None
        np.testing.assert_allclose(joined.vad, alone.vad, atol=1e-5)
    # Without words, and with the voice alone, the same.
    np.testing.assert_array_equal(
        model.predict([clips[3]])[0].intensities, model.predict([clips[3].audio])[0].intensities
    )
    assert np.abs(together[0].intensities - model.predict([clips[0].audio])[0].intensities).max() > 1e-4


def test_a_saved_model_needs_no_other_folder(source: Path, tmp_path: Path) -> None:
    model = make_model(source, pool="cls", max_tokens=5)
    model.save_pretrained(tmp_path / "model")
    again = EmiModel.open_run(tmp_path / "model", device="cpu")
    clips = make_clips(again)
    assert max(len(clip.further["text"]) for clip in clips) == 5
    for old, new in zip(model.predict(clips), again.predict(clips), strict=True):
        np.testing.assert_array_equal(old.intensities, new.intensities)


def test_an_exported_graph_equals_the_model(source: Path, tmp_path: Path) -> None:
    model = make_model(source)
    model.save_pretrained(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "exported")
    clips = make_clips(model)
    graph = GraphEngine(tmp_path / "exported", threads=1)
    np.testing.assert_array_equal(graph.tokenize(TEXTS[2]), clips[2].further["text"])
    together = graph.predict_raw(clips)
    for clip, actual in zip(clips, together, strict=True):
        wanted = model.predict([clip])[0]
        np.testing.assert_allclose(actual.intensities, wanted.intensities, atol=1e-5)
        np.testing.assert_allclose(actual.vad, wanted.vad, atol=1e-5)


def test_a_frozen_encoder_gets_no_gradient_and_dropout_replaces_whole_texts(source: Path) -> None:
    branch = make_branch(source, freeze=True, dropout=0.5)
    branch.freeze()
    branch.train()
    assert not branch.backbone.training
    tokens = branch.tokenize("well done")
    torch.manual_seed(0)
    vectors = branch(*branch.collate([tokens] * 64))
    vectors.sum().backward()
    assert all(parameter.grad is None for parameter in branch.backbone.parameters())
    dropped = (vectors == branch.missing).all(dim=1)
    assert 16 < int(dropped.sum()) < 48
    assert branch.missing.grad is not None
    torch.testing.assert_close(branch.missing.grad, torch.full_like(branch.missing, float(dropped.sum())))
    kept = vectors[~dropped]
    torch.testing.assert_close(kept, kept[:1].expand_as(kept))


def test_settings_that_name_no_usable_encoder_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="one of encoder"):
        TextSettings()
    with pytest.raises(SettingsError, match="no tokenizer"):
        text.make_config(TextSettings(encoder_config={"model_type": "bert"}))
    with pytest.raises(SettingsError, match="no model_type"):
        text.make_config(TextSettings(encoder_config={"hidden_size": 8}))
    with pytest.raises(ModelError, match="can't be loaded as a text encoder"):
        text.make_config(TextSettings(encoder=str(tmp_path)))
    small = {"model_type": "bert", "vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 2, "intermediate_size": 8}  # fmt: skip
    scratch = text.build(text.make_config(TextSettings(encoder_config=small, tokenizer=str(source))))
    scratch.fill(SimpleNamespace(encoder=None))
    assert scratch.width == 8
    positions = small | {"max_position_embeddings": 2}
    with pytest.raises(ModelError, match="expected 3 or more"):
        text.make_config(TextSettings(encoder_config=positions, tokenizer=str(source)))
