"""What is predicted: the six intensities, the VAD order, the audio format, and the error family."""

import warnings
from typing import Final

EMOTIONS: Final = ("Admiration", "Amusement", "Determination", "Empathic Pain", "Excitement", "Joy")
"""The six targets in the paper's order (section 3.1); each intensity lies in [0, 1]."""

VAD: Final = ("Arousal", "Dominance", "Valence")
"""The order of the three outputs of the VAD head, as in the audeering checkpoint the paper starts from."""

SAMPLE_RATE: Final = 16_000
"""Samples per second of every waveform inside emimic (paper section 4)."""

MAX_SECONDS: Final = 12.0
"""Clips are cut to this length: 95.6 % of the corpus is seen whole (paper section 3.2)."""


class EmimicError(Exception):
    """Any error a user can mend; its message says what was found, what was expected and what to do."""


class AudioError(EmimicError):
    """A media file or a waveform that can't be used."""


class CorpusError(EmimicError):
    """A corpus folder, a split table or its labels that can't be used."""


class ModelError(EmimicError):
    """A model folder, a checkpoint or an input that the model can't use."""


class SettingsError(EmimicError):
    """A training configuration that makes no sense."""


class EmimicWarning(UserWarning):
    """Something was done that the user should know of (a truncated file, an undefined score)."""


def add_note(note: str, notes: list[str] | None, *, stacklevel: int = 2) -> None:
    """Append a note to `notes`, or warn of it (EmimicWarning) where there is no such list.

    Warnings and their filters belong to the process; so what may run in threads hands its notes on as values.

    Args:
        note: names the file.
        notes: where to, None for a warning.
        stacklevel: whom the warning blames, as for `warnings.warn`.
    """
    if notes is None:
        warnings.warn(note, EmimicWarning, stacklevel=stacklevel + 1)
    else:
        notes.append(note)
