"""Recordings in, answers out: files and folders, each broken one named and costing only itself."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emimic import audio, buckets
from emimic.progress import shown
from emimic.task import AudioError

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

    model: a run folder (torch runs it). Raises ModelError when it can't be used.
    """

    def __init__(self, model: str | os.PathLike[str]) -> None:
        from emimic.model import EmiModel

        self.model = EmiModel.from_pretrained(model).eval()
        self.targets = tuple(self.model.config.targets)

    def files(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        batch_seconds: float = 60.0,
        workers: int = 2,
        progress: bool = False,
    ) -> Answers:
        """Answer for files and for every media file in folders (searched in depth, sorted by name).

        batch_seconds: most audio of one forward pass. workers: decoding threads. Never raises for a bad file.
        """
        wanted = list(expand(paths))
        groups = [[wanted[i] for i in rows] for rows in buckets.chunks(len(wanted))]
        clips: list[Answer] = []
        failed: list[Failure] = []
        batches = buckets.read_ahead(self._read, groups, workers=workers)
        for group, read in zip(
            groups,
            shown(batches, "hearing", total=len(groups), show=progress),
            strict=True,
        ):
            good = [clip for clip in read if isinstance(clip, audio.Clip)]
            answers = iter(
                self.model.predict([c.samples for c in good], batch_seconds=batch_seconds, running=True)
            )
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


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterable[Path]:
    """Files as they are given; a folder becomes its media files, in depth, sorted by name."""
    for path in map(Path, paths):
        if path.is_dir():
            found = (Path(root) / name for root, _, names in os.walk(path) for name in names)
            yield from sorted(file for file in found if file.suffix.lower() in audio.MEDIA_SUFFIXES)
        else:
            yield path
