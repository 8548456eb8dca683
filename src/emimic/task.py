"""The task: six intensities, the order of V/A/D, the audio format, and the error family."""

import warnings
from typing import Final

EMOTIONS: Final = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")
"""The six targets in the paper's order (section 3.1); each intensity lies in [0, 1]."""

VAD: Final = ("Arousal", "Dominance", "Valence")
"""The order of the three outputs of the VAD head, as in the audeering checkpoint the paper starts from."""

SAMPLE_RATE: Final = 16_000
"""Samples per second of every waveform inside emimic (paper section 4)."""

MAX_SECONDS: Final = 12.0
"""Clips are cut to this length: 95.6 % of the corpus is shorter (paper section 3.2)."""


class EmimicError(Exception):
    """An error that a user can fix; the message says what was found, what was expected and what to do."""


class AudioError(EmimicError):
    """A media file or a waveform that can't be used."""


class CorpusError(EmimicError):
    """A corpus folder, a split table or its labels that can't be used."""


class ModelError(EmimicError):
    """A model folder, a checkpoint or an input that the model can't use."""


class SettingsError(EmimicError):
    """An invalid training configuration."""


class EmimicWarning(UserWarning):
    """A condition that the user should know of, such as a truncated file or an undefined score."""


def add_note(note: str, notes: list[str] | None, *, stacklevel: int = 2) -> None:
    """Append a note to `notes`, or warn of it (EmimicWarning) where that is None.

    Warnings and their filters belong to the process, so code that may run in threads returns notes as values.

    Args:
        note: a message that names the file.
        notes: the list, or None for a warning.
        stacklevel: the caller that the warning names, as for `warnings.warn`.
    """
    if notes is None:
        warnings.warn(note, EmimicWarning, stacklevel=stacklevel + 1)
    else:
        notes.append(note)
