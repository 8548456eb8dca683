"""Emotion categories as labels of the six targets: 1, 0, or unknown."""

from typing import Final

from emimic.task import EMOTIONS


def _zero(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, 0.0)


MASKS: Final[dict[str, dict[str, float]]] = {
    "anger": _zero("Admiration", "Amusement", "Excitement", "Joy"),
    "boredom": _zero(*EMOTIONS),
    "calm": _zero(*EMOTIONS),
    # Scorn may be amused or resolute; it neither admires nor pities.
    "contempt": _zero("Admiration", "Empathic Pain", "Excitement", "Joy"),
    "disgust": _zero("Admiration", "Amusement", "Joy"),
    "fear": _zero("Admiration", "Amusement", "Joy"),
    "happiness": {"Joy": 1.0, **_zero("Empathic Pain")},
    "neutral": _zero(*EMOTIONS),
    "sadness": _zero("Admiration", "Amusement", "Excitement", "Joy"),
    # Welcome or unwelcome isn't said, and wonder is near to admiration; but it is no resolve and no pity.
    "surprise": _zero("Determination", "Empathic Pain"),
}
"""Category -> labels; a target that isn't listed is unknown (masked): a category says only what it excludes or names.

The masks are this project's choice, no corpus publishes them. A perceived fraction takes the place of Joy where there
is one.
"""


def labels_of(category: str, joy: float | None = None) -> dict[str, float]:
    """Return the labels of a category, in [0, 1]; none for a category outside MASKS.

    Args:
        category: one of MASKS, or anything else for unknown.
        joy: perceived joy in [0, 1], in place of the category's.
    """
    return MASKS.get(category, {}) | ({} if joy is None else {"Joy": joy})
