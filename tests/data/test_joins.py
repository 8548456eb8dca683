"""Clips of other lengths, mixtures and codecs: determined by seed, epoch and clip, with the labels they then have."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tone_corpus import STILL, make_corpus

from emimic.data import augment as changes
from emimic.data.augment import Augment, TimeMap
from emimic.data.corpus import Item
from emimic.data.joins import Joins
from emimic.task import SettingsError
from emimic.training import setup as runs
from emimic.training import step as steps
from emimic.training.settings import TrainSettings

RATE = 16_000
NAN = np.nan


def item(
    name: str, corpus: str = "", labels: tuple[float, ...] = (0.0,), speaker: str | None = "s", **given: Any
) -> Item:
    return Item(name, Path(name), np.float32(labels), speaker, 1.0, corpus=corpus, **given)


def sound(one: Item) -> np.ndarray:
    """2 s that no other clip has, of a loudness of its own."""
    rng = np.random.default_rng(sum(map(ord, one.key)))
    return (rng.uniform(0.05, 0.4) * rng.standard_normal(2 * RATE)).astype(np.float32)


def within(part: np.ndarray, whole: np.ndarray) -> int:
    """The sample at which a part lies in a whole, -1 if nowhere; parts are noise, so that ten samples suffice."""
    for start in np.flatnonzero(np.isclose(whole, part[0], rtol=1e-4, atol=0)):
        if start + len(part) <= len(whole) and np.allclose(
            whole[start : start + len(part)], part, rtol=1e-3, atol=1e-6
        ):
            return int(start)
    return -1


def test_lengths() -> None:
    """A third each is cropped, repeated and joined with a clip of the same corpus, class and speaker."""
    same = [item(str(i), columns={"Mood": "a"}) for i in range(3)]
    others = [
        item("7", columns={"Mood": "b"}),
        item("8", speaker="t", columns={"Mood": "a"}),
        item("0", "else", columns={"Mood": "a"}),
    ]
    joins = Joins.from_items([*same, *others], seed=0, max_seconds=6, lengths=0.75)
    own = sound(same[0])
    kinds = {"as it was": 0, "crop": 0, "repeat": 0, "join": 0}
    for epoch in range(200):
        loaded: list[Item] = []
        actual, time_map = joins.apply(
            own, same[0], epoch, lambda one, to=loaded: (to.append(one), sound(one))[1]
        )
        again, _ = joins.apply(own, same[0], epoch, sound)
        np.testing.assert_array_equal(actual, again)
        assert time_map.rate == 1
        at = round(time_map.start * RATE)
        if loaded:
            kinds["join"] += 1
            assert loaded[0] in same[1:]
            np.testing.assert_array_equal(actual[at : at + len(own)], own)
            other = sound(loaded[0])
            other *= np.sqrt(np.mean(own**2) / np.mean(other**2))
            offset = within(other[-50:], actual[:at]) if at else within(other[:50], actual[len(own) :])
            assert offset >= 0
            assert 4 * RATE <= len(actual) <= 4.4 * RATE
        elif len(actual) > len(own):
            kinds["repeat"] += 1
            assert at == 0
            assert len(actual) <= 6 * RATE
            np.testing.assert_array_equal(actual[: len(own)], own)
            if len(actual) > 2.5 * RATE:
                assert 0 <= within(own[:50], actual[len(own) :]) <= 0.4 * RATE
        elif len(actual) < len(own):
            kinds["crop"] += 1
            assert len(actual) >= RATE / 2
            np.testing.assert_array_equal(actual, own[-at : -at + len(actual)])
        else:
            kinds["as it was"] += 1
    expected = {"as it was": 0.25, "crop": 0.375, "repeat": 0.1875, "join": 0.1875}
    assert {name: pytest.approx(count / 200, abs=0.1) for name, count in kinds.items()} == expected
    assert joins.label(same[0], 3) is same[0]


def test_a_clip_alone_of_its_kind_is_repeated() -> None:
    lone = item("0", speaker=None)
    joins = Joins.from_items([lone, item("1", speaker=None)], seed=0, max_seconds=6, lengths=1.0)
    for epoch in range(30):
        joins.apply(sound(lone), lone, epoch, lambda one: pytest.fail(str(one)))


def test_the_labels_of_a_mixture() -> None:
    first = item(
        "1",
        "bursts",
        (0.7, 0.0, 0.0, NAN, NAN, 0.0),
        vad=np.float32([1, 1, 1]),
        category="c",
        domain="d",
        columns={"Mood": "a"},
    )
    second = item("1", "plain", (0.0, 0.0, NAN, 0.5, NAN, 0.4))
    joins = Joins.from_items([first, second], seed=0, max_seconds=6, mixed=0.5, corpora=["plain"])
    mixed = [joins.label(first, epoch) for epoch in range(200)]
    changed = [one for one in mixed if one is not first]
    assert len(changed) / 200 == pytest.approx(0.5, abs=0.12)
    for one in changed:
        np.testing.assert_array_equal(one.labels, np.float32([0.7, 0.0, NAN, NAN, NAN, 0.4]))
        assert (one.vad, one.category, one.domain, dict(one.columns)) == (None, None, None, {})
        assert (one.key, one.weight) == (first.key, first.weight)
    assert all(joins.label(second, epoch) is second for epoch in range(20))
    # The sound is mixed in the same epochs.
    own = sound(first)
    for epoch, one in enumerate(mixed):
        actual, _ = joins.apply(own, first, epoch, sound)
        assert np.array_equal(actual, own) is (one is first)


def test_the_sound_of_a_mixture() -> None:
    first, second = item("1", "bursts"), item("1", "plain")
    joins = Joins.from_items([first, second], seed=1, max_seconds=6, mixed=1.0, corpora=["plain"])
    own, other = sound(first), sound(second)
    other = other * np.sqrt(np.mean(own**2) / np.mean(other**2))
    places = []
    for epoch in range(60):
        actual, time_map = joins.apply(own, first, epoch, sound)
        at = round(time_map.start * RATE)
        if len(actual) == len(own):
            over = actual - own
            level = 10 * np.log10(np.mean(over**2) / np.mean(own**2))
            assert -15.01 <= level <= 0.01
            assert np.corrcoef(over, other)[0, 1] > 0.999
            places.append("over")
        else:
            np.testing.assert_array_equal(actual[at : at + len(own)], own)
            np.testing.assert_allclose(
                actual[: len(other)] if at else actual[-len(other) :], other, rtol=1e-3, atol=1e-6
            )
            places.append("before" if at else "after")
    assert all(places.count(name) > 8 for name in ("before", "after", "over"))
    # Where there is no room, nothing of the clip is cut.
    tight = replace(joins, max_seconds=2.95)
    for epoch in range(30):
        actual, time_map = tight.apply(own, first, epoch, sound)
        at = round(time_map.start * RATE)
        assert len(actual) <= 2.95 * RATE
        if len(actual) > len(own):
            np.testing.assert_array_equal(actual[at : at + len(own)], own)


def test_silence_is_no_trouble() -> None:
    first, second = item("1", "bursts"), item("1", "plain")
    joins = Joins.from_items(
        [first, second], seed=1, max_seconds=6, mixed=1.0, lengths=1.0, corpora=["plain"]
    )
    for epoch in range(20):
        for a, b in ((np.zeros(400, np.float32), sound(second)), (sound(first), np.zeros(30, np.float32))):
            actual, _ = joins.apply(a, first, epoch, lambda _, b=b: b)
            assert np.isfinite(actual).all()


# --- codecs


def test_codecs() -> None:
    t = np.arange(RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 6000 * t)).astype(np.float32)
    power = lambda x, f: abs(np.vdot(np.exp(2j * np.pi * f * t), x))  # noqa: E731
    kinds = set()
    for seed in range(12):
        actual = changes.apply_codec(tone, np.random.default_rng(seed))
        assert actual.shape == tone.shape
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, changes.apply_codec(tone, np.random.default_rng(seed)))
        assert power(actual, 440) == pytest.approx(power(tone, 440), rel=0.1)
        kinds.add(bool(power(actual, 6000) < 0.01 * power(tone, 6000)))
        error = np.mean((actual - tone) ** 2) / np.mean(tone**2)
        assert 1e-7 < error < 0.2  # neither as it was, nor shifted in time
    assert kinds == {True, False}
    for length in (1, 50, 700):
        assert len(changes.apply_codec(tone[:length], np.random.default_rng(0))) == length
    assert len(changes.apply_mp3(tone, 16)) == len(tone)


def test_a_codec_changes_nothing_else() -> None:
    wave = sound(item("x"))
    for epoch in range(30):
        plain, time_map = Augment(0.5, 0).apply(wave, "x", epoch)
        actual, later = Augment(0.5, 0, codec=0.5).apply(wave, "x", epoch)
        assert time_map == later
        assert actual.shape == plain.shape
    changed = [
        not np.array_equal(Augment(0.0, 0, codec=0.4)(wave[:800], str(i), 0), wave[:800]) for i in range(300)
    ]
    assert np.mean(changed) == pytest.approx(0.4, abs=0.1)


def test_positions_compose() -> None:
    times = np.linspace(0, 3, 7)
    early, late = TimeMap(-0.5, 1.0), TimeMap(0.25, 1.1)
    np.testing.assert_allclose(
        late.compose(early).to_recording(times), early.to_recording(late.to_recording(times))
    )
    assert late.compose(TimeMap()) == late


# --- in a run


def test_a_step_learns_the_labels_of_its_mixtures(
    tmp_path: Path, tiny: Callable[..., dict[str, Any]]
) -> None:
    folders = make_corpus(tmp_path / "tones"), make_corpus(tmp_path / "plain", train=(4000, 3000), seed=1)
    given = {"mixtures": {"fraction": 0.5, "corpora": ["plain"]}, "lengths": 0.5, "codec": 0.5}
    run = runs.open_run(
        folders,
        tmp_path / "run",
        TrainSettings(**tiny(encoder_config=STILL, **given)),
        resume=False,
        show=False,
    )
    assert run.log is not None
    run.log.close()
    rows = list(range(13))
    run.progress.epoch = 2
    actual = steps.Labels.from_rows(run, rows).targets.numpy()
    plain = np.stack([one.labels for one in run.train.items])
    changed = [row for row in rows if not np.array_equal(actual[row], plain[row])]
    mixed = [row for row in rows if run.train.relabel(run.train.items[row], 2) is not run.train.items[row]]
    assert 2 <= len(mixed) < 11
    assert set(changed) <= set(mixed) <= set(range(11))
    assert run.valid is not None
    assert all(run.valid.relabel(one, 2) is one for one in run.valid.items)
    read = run.train.read
    for row in rows:
        np.testing.assert_array_equal(
            read(run.train.items[row], 2).values, read(run.train.items[row], 2).values
        )
    assert steps.take(run, rows, rows, [read(run.train.items[row], 2) for row in rows]).isfinite()
    settings = TrainSettings(**tiny(mixtures={"corpora": ["tones", "plain"]}))
    with pytest.raises(
        SettingsError, match="expected some, not all, of the corpora of this run: tones, plain"
    ):
        runs.open_run(folders, tmp_path / "other", settings, resume=False, show=False)
    for name in ("codec", "lengths"):
        with pytest.raises(SettingsError, match=f"{name} changes waveforms"):
            TrainSettings.read(overrides={name: 0.5, "freeze_encoder": True})
