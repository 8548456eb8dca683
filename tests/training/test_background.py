"""The last state is written in the background: the same bytes, whole, and awaited."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

from emimic.files import OutputError
from emimic.training import background, checkpoint
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]


def make_state(folder: Path, steps: int = 3) -> tuple[Any, checkpoint.State]:
    model = tiny_models.model()
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    progress = checkpoint.Progress(total_steps=steps)
    return model, checkpoint.copy_state(folder, progress, model, optimizer, average)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / checkpoint.LAST).read_bytes()).hexdigest()


def test_the_file_is_that_of_the_step_and_has_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, state = make_state(tmp_path)
    checkpoint.write_state(state)
    wanted = digest(tmp_path)
    (tmp_path / checkpoint.LAST).unlink()
    go, save = threading.Event(), checkpoint.save_file

    def slow(*arguments: Any, **options: Any) -> None:
        assert go.wait(10)
        save(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save_file", slow)
    writer = background.Writer()
    model, state = make_state(tmp_path)
    writer.write(state)
    with torch.no_grad():  # the training continues
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert not (tmp_path / checkpoint.LAST).exists()
    go.set()
    writer.wait()
    assert digest(tmp_path) == wanted
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".last")]


def test_states_are_written_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, running, most = background.Writer(), 0, 0
    write = checkpoint.write_state

    def counting(state: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        write(state)
        running -= 1

    monkeypatch.setattr(background, "write_state", counting)
    for steps in (1, 2, 3):
        writer.write(make_state(tmp_path, steps)[1])
    writer.wait()
    writer.wait()
    progress = checkpoint.read_progress(tmp_path)
    assert progress is not None
    assert (most, progress.total_steps) == (1, 3)


def test_an_error_is_raised_in_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = background.Writer()
    writer.write(make_state(tmp_path / "missing")[1])
    with pytest.raises(OutputError, match=r"missing.*can't be written"):
        writer.wait()
    writer.wait()  # once
    writer.write(make_state(tmp_path / "missing")[1])
    with pytest.raises(OutputError, match=r"missing.*can't be written"):
        writer.write(make_state(tmp_path)[1])


def test_a_training_that_stops_has_written_its_state(
    tmp_path: Path, tones: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays = []
    write = checkpoint.write_state

    def slow(state: Any) -> None:
        delays.append(threading.current_thread().name)
        threading.Event().wait(0.05)
        write(state)

    monkeypatch.setattr(background, "write_state", slow)
    train(tones, tmp_path / "run", TrainSettings(**tiny(epochs=1, checkpoint_steps=1)), show=False)
    assert set(delays) == {"checkpoint"}
    progress = checkpoint.read_progress(tmp_path / "run")
    assert progress is not None
    assert (progress.epoch, progress.finished) == (1, True)
    assert all(thread.name != "checkpoint" for thread in threading.enumerate())
