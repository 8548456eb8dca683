"""From a recording to the input of a model: its first seconds, prepared, with its words and images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emimic.inference.channels import read_blocks
from emimic.inference.engine import Engine
from emimic.inference.inputs import read_content
from emimic.inference.recording import Recording, split_recording
from emimic.inference.results import Failure
from emimic.inference.spec import Spec
from emimic.inference.words import Speech, WordFinder, WordSource
from emimic.media import decode
from emimic.media.waveform import is_silent
from emimic.model.inputs import Inputs
from emimic.task import SAMPLE_RATE, AudioError, SettingsError


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """A decoded clip, prepared for the model; whether it is silent; remarks about its file; its words and images."""

    clip: decode.Clip
    silent: bool
    notes: tuple[str, ...] = ()
    speech: Speech | None = None
    images: NDArray[np.uint8] | None = None


class ClipReader:
    """Reads recordings for a model, with what its branches use."""

    def __init__(self, engine: Engine, words: WordSource | None, without: Sequence[str]) -> None:
        """Choose the branches that are used.

        Args:
            engine: The model.
            words: Where words come from; None: the transcriber that its training named, if it takes words.
            without: "text", "vision" or both, which are left out.

        Raises:
            SettingsError: The model has no branch of a name in `without`.
        """
        self._engine = engine
        used = _list_used(engine.spec, without)
        self.uses_words, self.uses_images = "text" in used, "vision" in used
        if words is None and self.uses_words:
            words = getattr(engine, "words", None)
        self.word_source = words

    @cached_property
    def words(self) -> WordFinder:
        """What finds words: it opens the transcriber, or reads the transcripts, when it is first used.

        Raises:
            ModelError: The transcriber can't be loaded.
            SettingsError: There is no source of words, or the folder of transcripts is missing.
        """
        if self.word_source is None:
            raise SettingsError(
                "found no source of words, which sentences and a model that takes words need: name a Whisper model "
                "(--transcriber, in Python WordSource), or a folder of transcripts (--transcripts); --without text "
                "predicts from the voice alone"
            )
        return WordFinder(self.word_source)

    def read(self, recording: Recording, file: Path | None = None) -> DecodedClip | Failure:
        """Decode a recording and prepare its first seconds.

        Args:
            recording: A file, its channel, or standard input.
            file: Where it lies, if the recording's path is only a name.
        """
        path, number = split_recording(recording)
        notes: list[str] = []
        try:
            content = file or read_content(path)
            images = self.read_images(content, os.fspath(path), notes)
            blocks = read_blocks(
                content,
                seconds=self._engine.spec.max_seconds,
                name=os.fspath(path),
                channel=number and number - 1,
                notes=notes,
            )
            return self.prepare(name_words(path, number), blocks, notes, images)
        except AudioError as error:
            return Failure(path, str(error))

    def read_images(self, source: Any, name: str, notes: list[str]) -> NDArray[np.uint8] | None:
        """Return the images of a recording; None for a model without, and where the voice alone can be used."""
        if not self.uses_images:
            return None
        engine: Any = self._engine
        try:
            if isinstance(source, np.ndarray | Sequence) and not isinstance(source, str | bytes):
                raise AudioError(
                    f"{name}: samples have no image. Give a video, or leave images out (without)"
                )
            images: NDArray[np.uint8] = engine.frames.read(source, name, notes)
        except AudioError as error:
            if not self._engine.spec.audio:
                raise
            notes.append(f"{error} The voice alone is used.")
            return None
        return images

    def prepare(
        self,
        path: Path,
        blocks: Iterator[NDArray[np.float32]],
        notes: list[str],
        images: NDArray[np.uint8] | None = None,
    ) -> DecodedClip:
        """Prepare the first of the blocks of max_seconds, find its words; the others only count, and fill `notes`.

        A model without audio reads sound only to transcribe it, and has no value where it finds neither words nor face.
        """
        spec = self._engine.spec
        if not spec.audio and not self.uses_words:
            return self._prepare_images(images, notes)
        head = next(blocks)
        total = len(head) + sum(map(len, blocks))
        clip = spec.clip_format.prepare(head)
        clip = replace(clip, seconds=total / SAMPLE_RATE, was_cut=total > len(head))
        speech = self.words.find(path, lambda: [head]) if self.uses_words else None
        if speech is not None and clip.was_cut:
            speech = speech.cut(len(head) / SAMPLE_RATE)
        # A silent film still shows a face.
        silent = images is None or not len(images)
        if spec.audio:
            silent = silent and is_silent(head)
        else:
            clip = replace(clip, samples=np.zeros(0, np.float32), was_padded=False)
            if speech is None or not speech.text.strip():
                notes.append(f"{path}: no words were found")
            else:
                silent = False
        return DecodedClip(clip, silent=silent, notes=tuple(notes), speech=speech, images=images)

    def _prepare_images(self, images: NDArray[np.uint8] | None, notes: list[str]) -> DecodedClip:
        """Return the clip of a model without audio; a recording without a face has no value, as silence has none."""
        engine: Any = self._engine
        frames = 0 if images is None else len(images)
        clip = decode.Clip(np.zeros(0, np.float32), frames / engine.frames.values["fps"], False, False)
        return DecodedClip(clip, silent=not frames, notes=tuple(notes), images=images)

    def make_input(self, decoded: DecodedClip) -> NDArray[np.float32] | Inputs:
        """Return the engine's input of a decoded clip."""
        text = None if decoded.speech is None else decoded.speech.text
        made = self.add_words(decoded.clip.samples, text)
        if not self.uses_images or decoded.images is None:
            return made
        words = made.further if isinstance(made, Inputs) else {}
        return Inputs(decoded.clip.samples, {**words, "vision": decoded.images})

    def add_words(self, samples: NDArray[np.float32], text: str | None) -> NDArray[np.float32] | Inputs:
        """Return the engine's input of prepared samples (sample,) and their words."""
        if not self.uses_words:
            return samples
        engine: Any = self._engine
        return Inputs(samples, {"text": engine.tokenize(text)})


def name_words(path: Path, channel: int | None) -> Path:
    """Return the path whose stem names a recording's transcript; a channel has one of its own."""
    return path if channel is None else path.with_name(f"{path.stem} channel {channel}{path.suffix}")


def _list_used(spec: Spec, without: Sequence[str]) -> list[str]:
    """Return the branches beside the voice that are used. Raises SettingsError for a name that can't be left out."""
    branches = [name for name, has in (("text", spec.text), ("vision", spec.vision)) if has]
    removable = branches if spec.audio else []
    if unknown := [name for name in without if name not in removable]:
        text = ", ".join(removable) or "none, since this model has one branch alone"
        raise SettingsError(f"without names {', '.join(unknown)}; expected {text}: leave it out")
    return [name for name in branches if name not in without]
