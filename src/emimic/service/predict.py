"""Recordings in, answers out: files and folders, each broken one named and costing only itself."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emimic import audio, buckets
from emimic.progress import shown
from emimic.task import AudioError, ModelError

if TYPE_CHECKING:
    from emimic.model import Prediction


@dataclass(frozen=True, slots=True)
class Answer:
    """One recording's answer.

    path: the file as given. seconds: its length before the cut at the model's max_seconds (was_cut); was_padded: it
    was shorter than the encoder's smallest input. prediction: intensities (target,), about [0, 1] and not clipped,
    with the curves over frames.
    """

    path: Path
    seconds: float
    was_cut: bool
    was_padded: bool
    prediction: "Prediction"


@dataclass(frozen=True, slots=True)
class Failure:
    """A file without an answer, and why (the reason names the file)."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of a list of files: answers in the order of the inputs, and the failures."""

    targets: tuple[str, ...]
    clips: tuple[Answer, ...]
    failed: tuple[Failure, ...]


class Predictor:
    """A finished model ready to hear files.

    model: a run folder (torch runs it). device: as torch names it; None takes a GPU where there is one. Raises
    ModelError when the folder can't be used.
    """

    def __init__(self, model: str | os.PathLike[str], *, device: str | None = None) -> None:
        from emimic.model import EmiModel

        self.model = EmiModel.open_run(model, device=device)
        self.targets = tuple(self.model.config.targets)

    def files(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        batch_seconds: float = 60.0,
        workers: int = 2,
        progress: bool = False,
    ) -> Answers:
        """Answer for files and for every media file in folders (searched in depth, sorted by name).

        batch_seconds: most audio of one forward pass. workers: decoding threads. Never raises for a bad file; raises
        ModelError when the model answers NaN.
        """
        found = list(expand([paths] if isinstance(paths, str | os.PathLike) else paths))
        wanted = [path for path in found if isinstance(path, Path)]
        groups = [[wanted[i] for i in rows] for rows in buckets.chunks(len(wanted))]
        clips: list[Answer] = []
        failed = [path for path in found if isinstance(path, Failure)]
        batches = buckets.read_ahead(self._read, groups, workers=workers)
        for group, read in zip(
            groups,
            shown(batches, "hearing", total=len(groups), show=progress),
            strict=True,
        ):
            good = [clip for clip in read if isinstance(clip, audio.Clip)]
            predicted = self.model.predict(
                [c.samples for c in good], batch_seconds=batch_seconds, running=True
            )
            if not all(np.isfinite(one.intensities).all() for one in predicted):
                raise ModelError("the model answers NaN or infinity: its weights are damaged; train it again")
            answers = iter(predicted)
            for path, clip in zip(group, read, strict=True):
                if isinstance(clip, audio.Clip):
                    clips.append(Answer(path, clip.seconds, clip.was_cut, clip.was_padded, next(answers)))
                else:
                    failed.append(Failure(path, str(clip)))
        return Answers(self.targets, tuple(clips), tuple(failed))

    def _read(self, path: Path) -> audio.Clip | AudioError:
        config = self.model.config
        try:
            return audio.prepare(
                audio.load(path),
                max_seconds=config.max_seconds,
                normalise=config.do_normalize,
                min_samples=self.model.min_samples,
            )
        except AudioError as error:
            return error


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path | Failure]:
    """Files as they are given; a folder becomes its media files, in depth (links too), sorted by name.

    Hidden files are passed by. A folder that can't be read, or holds no media file, is a Failure.
    """
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        troubles: list[OSError] = []
        files: list[Path] = []
        seen: set[str] = set()
        for root, folders, names in os.walk(path, followlinks=True, onerror=troubles.append):
            real = str(Path(root).resolve())
            if real in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            media = (name for name in names if Path(name).suffix.lower() in audio.MEDIA_SUFFIXES)
            files += [Path(root) / name for name in media if not name.startswith(".")]
        yield from sorted(files)
        for trouble in troubles:
            yield Failure(Path(trouble.filename), f"{trouble.filename}: can't be read ({trouble.strerror})")
        if not files and not troubles:
            yield Failure(path, f"{path}: holds no audio or video file")
