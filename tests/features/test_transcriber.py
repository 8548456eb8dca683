"""Long recordings are transcribed in blocks that are cut where it is quiet."""

from itertools import pairwise

import numpy as np

from emimic.features.transcriber import BLOCK, split_blocks


def test_blocks_end_in_pauses_and_lose_nothing() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, 16_000 * 61).astype(np.float32)
    for pause in (23.2, 45.6):  # seconds
        samples[round(pause * 16_000) : round((pause + 0.4) * 16_000)] = 0
    for size in (16_000, len(samples)):
        blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
        pieces = list(split_blocks(blocks))
        np.testing.assert_array_equal(np.concatenate(pieces), samples)
        assert len(pieces) == 3
        assert all(len(piece) <= BLOCK for piece in pieces)
        assert all(piece[-1] == 0 == later[0] for piece, later in pairwise(pieces))
    assert [len(piece) for piece in split_blocks([samples[:BLOCK]])] == [BLOCK]
    assert not list(split_blocks([samples[:0]]))
