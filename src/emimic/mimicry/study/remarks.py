"""Remarks on a study: its sessions' warnings, those that many sessions have in common in one line each."""

from collections.abc import Iterator, Sequence

import numpy as np

from emimic.mimicry.compare import FEW_SECONDS
from emimic.mimicry.results import Settings
from emimic.mimicry.study.results import SessionFacts, Voices
from emimic.mimicry.study.session import Session
from emimic.mimicry.timeline_warnings import describe_constant, describe_heat_map


def describe_session(session: Session, voices: Sequence[Voices]) -> SessionFacts:
    """Return a session's facts, with warnings about its timelines."""
    notes = [*session.notes, *(note for voice in session.voices if (note := describe_constant(voice)))]
    gathered = [
        f"{voice.name} has only {voice.voice:.0f} s of voice: so little can hardly show anything"
        for voice in session.voices
        if voice.voice < FEW_SECONDS
    ]
    for dyad in voices:
        if dyad.dyads is None or session.id not in dyad.sessions:
            continue
        row = dyad.sessions.index(session.id)
        valid, windows = _count_windows(dyad, row)
        if 2 * valid < windows:
            gathered.append(f"{dyad.name}: only {valid} of {windows} windows have enough voice on both sides")
        if note := describe_heat_map(dyad.dyads.heat_maps[row]):
            notes.append(f"{dyad.name}: {note}")
    voice = tuple(round(one.voice, 1) for one in session.voices)
    return SessionFacts(session.id, session.group, session.roles, voice, tuple(notes), tuple(gathered))


def list_gathered(sessions: Sequence[Session], voices: Sequence[Voices]) -> Iterator[str]:
    """Yield a sentence for each warning that sessions have in `gathered`, with their ids."""
    short = [one.id for one in sessions if min(voice.voice for voice in one.voices) < FEW_SECONDS]
    if short:
        yield (
            f"{len(short)} of {len(sessions)} sessions have a voice of less than {FEW_SECONDS:g} s, so little that it "
            f"can hardly show anything (seconds: study.json): {', '.join(short)}"
        )
    for dyad in voices:
        counts = [(name, *_count_windows(dyad, row)) for row, name in enumerate(dyad.sessions) if dyad.dyads]
        few = [name for name, valid, windows in counts if 2 * valid < windows]
        if few:
            yield (
                f"{dyad.name}: in {len(few)} of {len(dyad.sessions)} sessions less than half of the windows have "
                f"enough voice on both sides (numbers: study.json): {', '.join(few)}"
            )


def list_few_sessions(voices: Sequence[Voices], settings: Settings) -> Iterator[str]:
    """Yield a sentence for each pair of roles whose sessions are too few for the level."""
    needed = int(np.ceil((1 / (1 - settings.level) - 1) / 2 - 1e-9)) + 1
    for dyad in voices:
        if dyad.dyads is not None and len(dyad.sessions) < needed:
            yield (
                f"{dyad.name}: {len(dyad.sessions)} sessions give {2 * len(dyad.sessions) - 2} pseudo-dyads each, too "
                f"few for a session to show p below {1 - settings.level:.2g}; {needed} sessions could"
            )


def _count_windows(dyad: Voices, row: int) -> tuple[int, int]:
    """Return the number of windows with enough voice on both sides, and that of all."""
    assert dyad.dyads is not None
    heat_map = dyad.dyads.heat_maps[row]
    return int(np.isfinite(heat_map).any(axis=1).sum()), len(heat_map)
