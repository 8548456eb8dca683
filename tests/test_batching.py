"""Length buckets: every clip once, no batch over the budget, padding only where it may be."""

import math
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emimic import batching
from emimic.task import EmimicError

LENGTHS = st.lists(st.integers(1, 50), max_size=30)


@given(LENGTHS, st.integers(1, 200), st.booleans())
def test_a_plan_holds_every_clip_once_within_the_budget(lengths, budget, equal):
    batches = batching.plan(lengths, budget=budget, equal=equal)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(lengths, reverse=True)
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
        assert not equal or {lengths[i] for i in batch} == {longest}


def test_a_plan_fills_its_batches():
    assert batching.plan([3, 4, 1, 4], budget=12) == [[1, 3, 0], [2]]
    assert batching.plan([3, 4, 1, 4], budget=12, equal=True) == [[1, 3], [0], [2]]
    assert batching.plan([9], budget=5) == [[0]], "a clip beyond the budget is alone"
    assert batching.plan([], budget=5) == []


def test_a_budget_below_one_is_refused():
    with pytest.raises(ValueError, match=r"is 0 samples; it must be at least 1"):
        batching.plan([1], budget=0)


@pytest.mark.parametrize("tail", [(), (3,)])
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_padding_is_zero_on_the_right_and_the_mask_says_where(lengths, tail):
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((n, *tail)).astype(np.float32) for n in lengths]
    values, mask = batching.pad(clips)
    assert values.shape == (len(clips), max(lengths), *tail)
    assert values.dtype == np.float32
    assert mask.dtype == np.bool_
    for clip, row, real in zip(clips, values, mask, strict=True):
        np.testing.assert_array_equal(row[: len(clip)], clip)
        assert not row[len(clip) :].any()
        assert real.tolist() == [True] * len(clip) + [False] * (max(lengths) - len(clip))


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one clip"):
        batching.pad([])


@pytest.mark.parametrize("count", [0, 1, batching.CHUNK, batching.CHUNK + 1, 3 * batching.CHUNK])
def test_chunks_cover_every_row_once(count):
    actual = batching.split(range(count))
    assert [row for chunk in actual for row in chunk] == list(range(count))
    assert all(1 <= len(chunk) <= batching.CHUNK for chunk in actual)


@pytest.mark.parametrize("groups", [[], [[1]], [[3, 1], [2], [], [5, 4], [6]]])
def test_reading_ahead_keeps_the_order(groups):
    def read(number):
        time.sleep(0.002 * (7 - number))  # later ones are done first
        return number * 10

    actual = list(batching.read_groups(read, groups, workers=4))
    assert actual == [(i, [10 * number for number in group]) for i, group in enumerate(groups)]


def test_reading_ahead_reads_two_groups_more_and_no_further():
    started = []
    reading = batching.read_groups(
        lambda number: started.append(number) or number, [[i] for i in range(9)], workers=1
    )
    assert started == [], "nothing is read before the first group is asked for"
    assert next(reading) == (0, [0])
    assert next(reading) == (1, [1])
    deadline = time.monotonic() + 5
    while len(started) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert started == [0, 1, 2, 3]
    reading.close()


def test_a_slow_member_holds_up_its_own_group_alone():
    let_go = threading.Event()

    def read(number):
        return let_go.wait(10) and number if number == 1 else number

    reading = batching.read_groups(read, [[0, 1], [2, 3], [4], [], [5], [6]], workers=2, in_order=False)
    assert sorted(next(reading) for _ in range(5)) == [(1, [2, 3]), (2, [4]), (3, []), (4, [5]), (5, [6])]
    let_go.set()
    assert list(reading) == [(0, [0, 1])]


def test_reading_in_any_order_holds_three_groups_besides_the_one_handed_out():
    started = []
    reading = batching.read_groups(
        lambda number: started.append(number) or number, [[i] for i in range(9)], workers=1, in_order=False
    )
    assert next(reading) == (0, [0])
    time.sleep(0.05)
    assert len(started) <= 3
    assert next(reading) == (1, [1])
    time.sleep(0.05)
    assert len(started) <= 4
    reading.close()
    assert list(reading) == []


def test_a_failed_read_is_raised_where_it_is_due_and_stops_the_rest():
    started = []

    def read(number):
        started.append(number)
        if number == 1:
            raise OSError("unreadable")
        time.sleep(0.05 * (number > 1))
        return number

    reading = batching.read_groups(read, [[0], [1], [2, 3, 4, 5]], workers=1)
    assert next(reading) == (0, [0])
    with pytest.raises(OSError, match="unreadable"):
        next(reading)
    assert 5 not in started


@pytest.mark.parametrize("seconds", [math.nan, math.inf, "30"])
def test_seconds_of_a_batch_are_a_number(seconds: float) -> None:
    with pytest.raises(EmimicError, match="expected seconds of audio"):
        batching.compute_budget(seconds)
    assert [batching.compute_budget(0.5, hop) for hop in (1, 320)] == [8000, 25]
    assert [batching.compute_budget(given) for given in (0, -1)] == [1, 1]
