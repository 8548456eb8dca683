"""A run that starts from all weights of a finished one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tone_corpus import make_corpus

from emimic.task import ModelError
from emimic.training.loop import train
from emimic.training.settings import TrainSettings
from emimic.training.setup import Run

OpenRun = Callable[..., Run]
Tiny = Callable[..., dict[str, Any]]


def test_starts_from_the_encoder_or_from_all_weights(tmp_path: Path, tiny: Tiny, open_run: OpenRun) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    first = tmp_path / "first"
    train(corpus, first, TrainSettings(**tiny(epochs=1, lstm=False)), show=False)
    finished = load_file(first / "model.safetensors")
    given = {**tiny(lstm=False), "encoder_config": None, "encoder": str(first)}

    for start_heads in (False, True):
        run = open_run(corpus, TrainSettings(**given, start_heads=start_heads))
        state = run.model.state_dict()
        assert set(state) == set(finished)
        same = {name for name in state if torch.equal(state[name], finished[name])}
        assert {name for name in state if name.startswith("encoder.")} <= same
        assert ("head.dense.weight" in same, "head.out_proj.weight" in same) == (start_heads, start_heads)


def test_refuses_heads_of_another_shape_or_no_run(tmp_path: Path, tiny: Tiny, open_run: OpenRun) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    first = tmp_path / "first"
    train(corpus, first, TrainSettings(**tiny(epochs=1, lstm=False)), show=False)
    given = {
        **tiny(lstm=False, head_units=5),
        "encoder_config": None,
        "encoder": str(first),
        "start_heads": True,
    }
    with pytest.raises(
        ModelError, match=r"head\.dense\.\w+ has the shape .* expected \(5,.*start_heads=false"
    ):
        open_run(corpus, TrainSettings(**given))
    with pytest.raises(ModelError, match="found no folder None, expected a finished run"):
        open_run(corpus, TrainSettings(**tiny(start_heads=True)))
