"""Which clips of which corpus make a step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emimic.data.sampling import Pool, count_clips, plan_steps

SEEDS = st.integers(0, 2**32)


def drawn(pools: list[Pool], epochs: int, seed: int = 0, size: int = 4) -> list[list[int]]:
    return [
        [row for step in plan_steps(pools, size, seed=seed, epoch=epoch) for row in step]
        for epoch in range(epochs)
    ]


@given(st.integers(0, 60), st.integers(1, 9), SEEDS, st.integers(0, 30))
def test_one_corpus_is_drawn_as_ever(clips: int, size: int, seed: int, epoch: int) -> None:
    order = np.random.default_rng((seed, epoch)).permutation(clips).tolist()
    wanted = [order[i : i + size] for i in range(0, clips, size)]
    assert plan_steps([Pool(range(clips), clips)], size, seed=seed, epoch=epoch) == wanted


@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 60), SEEDS, st.integers(1, 9))
def test_several_corpora(first: int, second: int, count: int, seed: int, size: int) -> None:
    pools = [Pool(range(first), first), Pool(range(first, first + second), count, "b")]
    epochs = drawn(pools, 4, seed, size)
    for epoch in epochs:
        assert sorted(row for row in epoch if row < first) == list(range(first))
        assert len(epoch) == first + count
        # Anywhere in the epoch a corpus has come as often as its fraction says, to one clip.
        came = np.cumsum([row >= first for row in epoch])
        due = np.arange(1, len(epoch) + 1) * count / len(epoch)
        assert np.abs(came - due).max() <= 1
    times = Counter(row for epoch in epochs for row in epoch if row >= first)
    often = [times[row] for row in range(first, first + second)]
    assert max(often) - min(often) <= 1  # over epochs, every clip equally often
    assert epochs == drawn(pools, 4, seed, size)
    assert plan_steps(pools, size, seed=seed, epoch=2) == plan_steps(list(pools), size, seed=seed, epoch=2)


def test_orders_differ_between_corpora_epochs_and_seeds() -> None:
    pools = [Pool(range(20), 20), Pool(range(20, 40), 20, "b"), Pool(range(40, 60), 20, "c")]
    epochs = [*drawn(pools, 2), *drawn(pools, 1, seed=1)]
    orders = [tuple(row % 20 for row in epoch if row // 20 == i) for epoch in epochs for i in range(3)]
    assert len(set(orders)) == 9


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), SEEDS)
def test_classes_are_drawn_equally_often(sizes: list[int], seed: int) -> None:
    classes = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    pool = Pool(range(len(classes)), 7, "b", classes)
    rows = [row for epoch in range(12) for row in pool.draw(seed=seed, epoch=epoch)]
    assert len(rows) == 84
    often = Counter(classes[row] for row in rows)
    assert max(often.values()) - min(often[name] for name in set(classes)) <= 1
    for name in set(classes):
        times = Counter(row for row in rows if classes[row] == name)
        each = [times[row] for row in range(len(classes)) if classes[row] == name]
        assert max(each) - min(each) <= 1
    assert rows[7:14] == pool.draw(seed=seed, epoch=1)


@pytest.mark.parametrize("balanced", [False, True])
def test_speaker_by_speaker(balanced: bool) -> None:
    speakers = ["a"] * 6 + ["b"] * 4 + ["c"] * 5
    classes = [str(i % 2) for i in range(15)] if balanced else None
    pool = Pool(range(15), 15, "b", classes, speakers)
    orders = set()
    for epoch in range(6):
        rows = pool.draw(seed=3, epoch=epoch)
        runs = [
            speakers[row] for i, row in enumerate(rows) if not i or speakers[rows[i - 1]] != speakers[row]
        ]
        assert sorted(runs) == ["a", "b", "c"]
        orders.add(tuple(runs))
        if not balanced:
            assert sorted(rows) == list(range(15))
        else:
            own = Counter((speakers[row], classes[row]) for row in rows)
            assert own["a", "0"] == own["a", "1"] == 3
            assert abs(own["c", "0"] - own["c", "1"]) == 1
    assert len(orders) > 1


def test_fractions() -> None:
    assert count_clips([100], [None]) == [100]
    assert count_clips([100, 50, 25], [None] * 3) == [100, 50, 25]
    assert count_clips([100, 5000], [0.8, 0.2]) == [100, 25]
    assert count_clips([100, 300, 100], [0.5, None, None]) == [100, 75, 25]
    assert count_clips([60, 300, 20], [None, 0.25, None]) == [60, 27, 20]
    assert count_clips([2, 9], [0.99, 0.01]) == [2, 1]  # one at least, or it would never come


@pytest.mark.parametrize(
    ("fractions", "come"),
    [([0.7, 0.7], "1.4"), ([0.4, 0.4], "0.8"), ([1.0, None], "1"), ([0.5], "0.5")],
)
def test_fractions_that_do_not_fit(fractions: list[float | None], come: str) -> None:
    with pytest.raises(ValueError, match=f"come to {come}, expected 1 where"):
        count_clips([10, 10][: len(fractions)], fractions)
