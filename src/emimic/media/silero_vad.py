"""Speech probabilities for each 32 ms of a recording, by silero-vad on ONNX Runtime.

A call takes any number of chunks, one after another: their spectra and layers are products over all of them, and only
the recurrent layer goes step by step. So a file, whose sound is at hand, is processed a second at a time.
"""

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

CHUNK: Final = 512
"""Samples (32 ms) per probability, as silero-vad's 16 kHz model takes them."""

LIVE: Final = 4 * CHUNK
"""Samples (0.13 s) of a stream processed in one call: always as many, as other shapes may change the last bits."""

FILE: Final = 32 * CHUNK
"""Samples (1.02 s) of a file processed in one call: per second of sound two thirds of a stream's time."""

SPEECH: Final = 0.5
"""Minimum probability of speech; silero-vad's own default."""

MODEL: Final = Path(__file__).parents[1] / "silero" / "silero_vad_16k_products.onnx"

_CONTEXT: Final = 64  # samples of the chunk before that the model takes in front of each


class SpeechDetector:
    """A detector that processes a recording at 16 kHz from its start, some chunks at a time, and keeps its state."""

    def __init__(self) -> None:
        self._session = _open_session()
        self._tail = np.zeros(_CONTEXT, np.float32)
        self._state = [np.zeros((1, 1, 128), np.float32)] * 2

    def detect(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of speech (chunk,) in each chunk of the next (chunk * CHUNK,) samples."""
        samples = np.concatenate([self._tail, samples])
        frames = np.ascontiguousarray(sliding_window_view(samples, _CONTEXT + CHUNK)[::CHUNK])
        feed = {"input": frames, "h": self._state[0], "c": self._state[1]}
        speech: NDArray[np.float32]
        speech, *self._state = self._session.run(["speech_probs", "hn", "cn"], feed)
        self._tail = samples[-_CONTEXT:].copy()
        return speech


def pad(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return samples (sample,) with zeros behind them up to a whole number of chunks."""
    return np.pad(samples, (0, -len(samples) % CHUNK))


def measure_speech(samples: NDArray[np.float32]) -> float:
    """Return the fraction, 0 to 1, of samples (sample,) at 16 kHz in chunks with speech; 0 without samples."""
    detector, n_speech = SpeechDetector(), 0
    for start in range(0, len(samples), FILE):
        group = samples[start : start + FILE]
        speech = detector.detect(pad(group)) >= SPEECH
        n_speech += int(np.repeat(speech, CHUNK)[: len(group)].sum())
    return n_speech / max(len(samples), 1)


@cache
def _open_session() -> Any:
    """Return the session of the model, one per process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # more threads only wait for each other
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
