"""Each recording of a corpus is decoded once by scans: of training, evaluation and all processes together."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synth_speech import make_voices

from emimic.data import scan
from emimic.data.corpus import load_corpus
from emimic.evaluation.evaluate import evaluate
from emimic.media import decode
from emimic.task import CorpusError
from emimic.training import run_corpora
from emimic.training.loop import train
from emimic.training.settings import TrainSettings

Tiny = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    scan._scanned.clear()
    yield
    scan._scanned.clear()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Times that a file was decoded entirely, as scans do; a clip of a batch is decoded up to max_seconds."""
    counts: dict[str, int] = {}
    load = decode.load

    def counting(source: Any, **options: Any) -> Any:
        if "max_seconds" not in options:
            counts[Path(source).stem] = counts.get(Path(source).stem, 0) + 1
        return load(source, **options)

    monkeypatch.setattr(decode, "load", counting)
    return counts


def test_training_and_evaluation_scan_a_corpus_once(
    tmp_path: Path, tiny: Tiny, decoded: dict[str, int]
) -> None:
    folder = make_voices(tmp_path / "corpus", rough=False, seed=0)
    values = tiny(epochs=1, batch_size=40)
    train(folder, tmp_path / "run", TrainSettings(**values), show=False)
    assert set(decoded.values()) == {1}
    assert len(decoded) == 52
    evaluate(tmp_path / "run", folder, progress=False, draw=False, n_bootstrap=2)
    train(folder, tmp_path / "other", TrainSettings(**values, seed=1), show=False)
    assert set(decoded.values()) == {1}


def test_changed_recordings_are_decoded_again(tmp_path: Path, decoded: dict[str, int]) -> None:
    folder = make_voices(tmp_path / "corpus", rough=False, seed=0)
    before = load_corpus(folder).splits["train"].items[0].seconds
    clip, other = folder / "audio" / "train0.wav", folder / "audio" / "train1.wav"
    other.replace(clip)
    corpus = load_corpus(folder)
    assert decoded["train0"] == 2
    assert decoded["train2"] == 1
    assert corpus.splits["train"].items[0].seconds != before
    assert [left.kind for left in corpus.splits["train"].left_out] == ["missing"]


def test_warnings_and_errors_are_reported_each_time(tmp_path: Path, decoded: dict[str, int]) -> None:
    folder = make_voices(tmp_path / "corpus", rough=False, seed=0)
    file = folder / "audio" / "train3.wav"
    file.write_bytes(file.read_bytes()[:-200])
    (folder / "audio" / "train4.wav").write_bytes(b"no audio")
    first, second = load_corpus(folder), load_corpus(folder)
    assert set(decoded.values()) == {1}
    assert first.to_dict() == second.to_dict()
    assert [left.id for left in second.splits["train"].left_out] == ["train4"]
    assert "audio/train4.wav" in second.splits["train"].left_out[0].reason


def test_the_first_process_scans_for_all(tmp_path: Path, decoded: dict[str, int]) -> None:
    folder = make_voices(tmp_path / "corpus", rough=False, seed=0)
    sent: list[Any] = []

    def make_fabric(rank: int) -> Any:
        def broadcast(values: Any) -> Any:
            if rank == 0:
                sent.append(values)
            return sent[-1]

        return SimpleNamespace(world_size=2, is_global_zero=rank == 0, broadcast=broadcast)

    def load() -> Any:
        return load_corpus(folder)

    first: Any = run_corpora.load_run_corpora_once(make_fabric(0), load)
    scan._scanned.clear()  # the second process has its own memory
    second: Any = run_corpora.load_run_corpora_once(make_fabric(1), load)
    assert set(decoded.values()) == {1}
    assert first.to_dict() == second.to_dict()

    def fail() -> Any:
        raise CorpusError("no corpus")

    for rank in (0, 1):  # no process waits for one that failed
        with pytest.raises(CorpusError, match="no corpus"):
            run_corpora.load_run_corpora_once(make_fabric(rank), fail)
    assert len(sent) == 2
