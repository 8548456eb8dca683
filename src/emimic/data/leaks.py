"""Leaks between splits: a clip or a speaker in two tables."""

from collections.abc import Sequence
from itertools import combinations, product

from emimic.data.fields import fold_name, show_name
from emimic.data.split_tables import Table, get_clip_key, list_some
from emimic.task import CorpusError


def check_leaks(
    tables: Sequence[Table], others: Sequence[Table], allow_speakers: bool, notes: list[str]
) -> None:
    """Check that no clip and no speaker is in one of `tables` and in another table.

    Args:
        tables: those of the requested splits.
        others: those of the other splits.
        allow_speakers: note speakers in two tables instead of raising an error.
        notes: gets a note for speakers that may be the same person, and for tables without speakers.

    Raises:
        CorpusError: a clip, or a speaker unless allowed, is in two tables.
    """
    for first, second in (*combinations(tables, 2), *product(tables, others)):
        _check_clips(first, second)
        _check_speakers(first, second, allow_speakers, notes)


def _check_clips(first: Table, second: Table) -> None:
    """Check that two tables list no clip twice.

    Raises:
        CorpusError: they do.
    """
    keys = {get_clip_key(name) for name in first.list_ids()}
    if both := [name for name in second.list_ids() if get_clip_key(name) in keys]:
        raise CorpusError(
            f"{first.path.name} and {second.path.name} both list {list_some(both)}; expected each clip in one "
            "split. Remove it from one of them, or take a table that is no split out of the folder"
        )


def _check_speakers(first: Table, second: Table, allow_speakers: bool, notes: list[str]) -> None:
    """Check that two tables name no speaker twice.

    Raises:
        CorpusError: they do, and `allow_speakers` is false.
    """
    names = f"{first.path.name} and {second.path.name}"
    ours, theirs = first.list_speakers(), second.list_speakers()
    both = sorted(
        theirs[key] if theirs[key] == ours[key] else f"{show_name(ours[key])} = {show_name(theirs[key])}"
        for key in theirs.keys() & ours
    )
    if both and not allow_speakers:
        raise CorpusError(
            f"{names} both name the speakers {list_some(both)}; expected different "
            "people, else scores say little about new voices. Give each speaker to one split (in Python, "
            "load_corpus(..., allow_speaker_overlap=True) makes this a warning)"
        )
    if both:
        notes.append(f"{names} both name speakers: {list_some(both)}")
    folded = {fold_name(name): name for name in ours.keys() - theirs}
    close = [
        f"{show_name(folded[fold_name(name)])} and {show_name(name)}"
        for name in sorted(theirs.keys() - ours)
        if fold_name(name) in folded
    ]
    if close:
        notes.append(
            f"{names}: the speakers {list_some(close)} differ only in case, signs or how a number is written; are they "
            "the same people?"
        )
    if bool(ours) != bool(theirs):
        with_, without = (first, second) if ours else (second, first)
        notes.append(
            f"{without.path.name} names no speaker and {with_.path.name} does: leaks of speakers can't be checked"
        )
