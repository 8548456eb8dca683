"""Clips side by side: the plan, the way there and back, and what the encoder makes of them."""

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st

from emimic.model import packing
from emimic.model.packing import Packing
from emimic.task import ModelError

HOP = 320


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 60))
def test_a_plan_keeps_the_order_and_the_limit(counts: list[int], longest: int) -> None:
    plan = Packing.plan(counts, longest)
    assert plan.counts == tuple(counts)
    ends: dict[int, int] = {}
    for row, start, count in zip(plan.rows, plan.starts, plan.counts, strict=True):
        assert start == ends.get(row, 0)  # without a gap
        assert start + count <= longest or start == 0
        ends[row] = start + count
    assert list(plan.rows) == sorted(plan.rows)
    assert sorted(ends) == list(range(len(ends)))
    firsts = [count for count, start in zip(counts, plan.starts, strict=True) if start == 0]
    assert all(end + following > longest for end, following in zip(ends.values(), firsts[1:], strict=False))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 20), st.integers(1, 3))
def test_packed_clips_come_back(counts: list[int], longest: int, factor: int) -> None:
    plan = Packing.plan(counts, longest).scale(factor)
    clips = torch.zeros(len(counts), factor * max(counts) + 1, 2)
    for number, count in enumerate(counts):
        clips[number, : factor * count] = 100 * number + torch.arange(factor * count)[:, None] + 1.0
    packed, real = plan.pack(clips)
    assert int(real.sum()) == factor * sum(counts)
    assert bool((packed[~real] == 0).all())
    unpacked, mask = plan.unpack(packed)
    assert mask.sum(dim=1).tolist() == [factor * count for count in counts]
    assert torch.equal(unpacked, clips[:, : factor * max(counts)] * mask[..., None])


def make_clips(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=length).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("started", [False, True])
def test_clips_are_encoded_as_in_one_recording(started: bool) -> None:
    """Rows hold clips 1 and 2, 3 and 4; clip 2's last 17 samples are no frame."""
    model = tiny_models.model("whisper", hidden_layers=[1, 2], frozen_layers=1, attention_seconds=0.1).eval()
    clips = make_clips([20 * HOP, 8 * HOP + 17, 25 * HOP, 3 * HOP])
    joined = [np.concatenate([clips[0], clips[1][: 8 * HOP]]), np.concatenate(clips[2:])]
    with torch.no_grad():
        if started:
            states = [model.encode_frozen(*model.collate([clip]))[0][0] for clip in clips]
            states[1] = states[1][:8]
            values, mask = model.collate([part.numpy() for part in states])
            rows = [torch.cat(states[:2]), torch.cat(states[2:])]
            expected = [model.encode_rest(row[None], torch.ones(1, len(row)).bool())[0] for row in rows]
        else:
            values, mask = model.collate(clips)
            expected = [model.encode(*model.collate([wave]))[0][0] for wave in joined]
        hidden, frames = packing.encode_in_context(model, values, mask, 0.6, started=started)
    assert frames.sum(dim=1).tolist() == [20, 8, 25, 3]
    for number, (row, start, count) in enumerate([(0, 0, 20), (0, 20, 8), (1, 0, 25), (1, 25, 3)]):
        torch.testing.assert_close(
            hidden[number, :count], expected[row][start : start + count], atol=2e-5, rtol=1e-4
        )


def test_a_frame_attends_only_so_far() -> None:
    """Two layers of 5 frames, and 4 frames of convolutions: what is 15 frames away changes nothing."""
    model = tiny_models.model("whisper", attention_seconds=0.1).eval()
    first = make_clips([60 * HOP])[0]
    first[50 * HOP] = 9.0  # the loudest value, which sets the floor
    second = first.copy()
    second[: 20 * HOP] *= 0.1
    with torch.no_grad():
        one, two = (model.encode(*model.collate([wave]))[0][0] for wave in (first, second))
    assert model.config.reach == 5
    torch.testing.assert_close(one[35:], two[35:], atol=1e-5, rtol=1e-4)
    assert float((one[22] - two[22]).detach().abs().max()) > 1e-3


def test_other_encoders_attend_to_all() -> None:
    with pytest.raises(ModelError, match="attention_seconds is set with a wav2vec2 encoder"):
        tiny_models.model("wav2vec2-layer", attention_seconds=0.1)
