"""How probable speech is in each 32 ms of a recording: silero-vad on ONNX Runtime, in `silero/` beside this file."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

CHUNK: Final = 512
"""Samples (32 ms) of one probability, as silero-vad's 16 kHz model takes them."""

GROUP: Final = 4 * CHUNK
"""Samples heard in one call, always: other shapes would give other last bits."""

SPEECH: Final = 0.5
"""Least probability that counts as speech, silero-vad's own default."""

MODEL: Final = Path(__file__).parents[1] / "silero" / "silero_vad_16k_sequence.onnx"

_CONTEXT: Final = 64  # samples of the chunk before that the model wants in front of each


class Listener:
    """Hears a recording at 16 kHz from its start, a group at a time, and remembers what came before."""

    def __init__(self) -> None:
        self._session = _session()
        self._tail = np.zeros(_CONTEXT, np.float32)
        self._state = [np.zeros((1, 1, 128), np.float32)] * 2

    def hear(self, group: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next (GROUP,) samples -> probability of speech in each of their (chunk,)."""
        whole = np.concatenate([self._tail, group])
        frames = np.ascontiguousarray(sliding_window_view(whole, _CONTEXT + CHUNK)[::CHUNK])
        feed = {"input": frames, "h": self._state[0], "c": self._state[1]}
        speech: NDArray[np.float32]
        speech, *self._state = self._session.run(["speech_probs", "hn", "cn"], feed)
        self._tail = whole[-_CONTEXT:].copy()
        return speech


def share(samples: NDArray[np.float32]) -> float:
    """(sample,) at 16 kHz -> the part of it, 0 to 1, in chunks with speech; 0 of nothing."""
    listener, spoken = Listener(), 0
    for start in range(0, len(samples), GROUP):
        group = samples[start : start + GROUP]
        speech = listener.hear(np.pad(group, (0, GROUP - len(group)))) >= SPEECH
        spoken += int(np.repeat(speech, CHUNK)[: len(group)].sum())
    return spoken / max(len(samples), 1)


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # more threads only wait for each other
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
