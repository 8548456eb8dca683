"""A Whisper model of transformers that transcribes samples of any length, with the times of the words."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch

from emimic.data.transcripts import Word
from emimic.features import encoder_cache
from emimic.media.waveform import Wave, is_silent
from emimic.model.backbones import load_pretrained, make_load_error
from emimic.task import SAMPLE_RATE, ModelError

BLOCK: Final = 28 * SAMPLE_RATE
"""Maximum samples of a block; Whisper takes 30 s."""

_SEARCHED: Final = 8 * SAMPLE_RATE
"""A longer recording is cut at the quietest moment of the last 8 s of a block."""

_QUIET: Final = SAMPLE_RATE // 5


class Transcriber:
    """A Whisper model.

    Attributes:
        source: its folder, or name on the hub.
        weights: digest of its weights.
    """

    def __init__(self, source: str, *, language: str | None = None, device: str | None = None) -> None:
        """Load the model.

        Args:
            source: folder, or name on the hub.
            language: spoken, such as en; None: Whisper detects it.
            device: as torch names it; None takes a GPU if there is one.

        Raises:
            ModelError: if it can't be loaded.
        """
        from transformers import AutoProcessor, WhisperForConditionalGeneration, pipeline

        self.source, self.language = source, language
        model = load_pretrained(WhisperForConditionalGeneration, source, "a Whisper model")
        try:
            processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        except Exception as error:  # JSON and hub errors have no other common base
            raise make_load_error(source, "a Whisper model", error) from error
        if not processor.tokenizer.vocab_size:  # transformers makes an empty one where there is none
            raise ModelError(
                f"{source} has no tokenizer; expected Whisper's tokenizer.json, or vocab.json and merges.txt, beside "
                "the weights"
            )
        self._run = pipeline(
            "automatic-speech-recognition", model=model.eval(), tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
        )  # fmt: skip
        self._options = {"language": language, "task": "transcribe"} if language else {}
        self.weights = encoder_cache.digest_weights(model)

    def transcribe(self, samples: Wave) -> list[Word]:
        """Return the words of samples (sample,) at 16 kHz, of any length.

        Raises:
            RuntimeError, ValueError, IndexError: the model fails.
        """
        return list(self.transcribe_blocks([samples]))

    def transcribe_blocks(self, blocks: Iterable[Wave]) -> Iterator[Word]:
        """Yield the words of a recording that comes in blocks (sample,), holding half a minute of it at a time."""
        start = 0.0
        for piece in split_blocks(blocks):
            end = start + len(piece) / SAMPLE_RATE
            if not is_silent(piece):  # Whisper invents words for silence
                for word in self._transcribe(piece):
                    yield Word(word.word, min(start + word.start, end), min(start + word.end, end))
            start = end

    def _transcribe(self, piece: Wave) -> Iterator[Word]:
        output: Any = self._run(
            {"raw": piece, "sampling_rate": SAMPLE_RATE},
            return_timestamps="word",
            generate_kwargs=dict(self._options),
        )
        return _parse_words(output["chunks"], len(piece) / SAMPLE_RATE)


def split_blocks(blocks: Iterable[Wave]) -> Iterator[Wave]:
    """Yield the same samples in pieces that Whisper takes, cut where it is quiet."""
    rest = np.empty(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        while len(rest) > BLOCK:
            searched = rest[BLOCK - _SEARCHED : BLOCK].astype(np.float64)
            levels = np.square(searched).reshape(-1, _QUIET).sum(axis=1)
            stop = BLOCK - _SEARCHED + int(levels.argmin()) * _QUIET + _QUIET // 2
            yield rest[:stop]
            rest = rest[stop:]
    if len(rest):
        yield rest


def _parse_words(chunks: Sequence[Any], end: float) -> Iterator[Word]:
    """Yield the pipeline's words, clipped to the clip's end in seconds: times may be missing, or in the padding."""
    for chunk in chunks:
        start, stop = chunk["timestamp"]
        start = min(start or 0.0, end)
        yield Word(chunk["text"], start, max(start, min(end if stop is None else stop, end)))
