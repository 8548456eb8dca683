"""Emotion categories as labels of the six targets: 1, 0, or unknown."""

from typing import Final

from emimic.task import EMOTIONS


def _set_zero(*names: str) -> dict[str, float]:
    """Return labels of 0 for these targets."""
    return dict.fromkeys(names, 0.0)


MASKS: Final[dict[str, dict[str, float]]] = {
    "anger": _set_zero("Admiration", "Amusement", "Excitement", "Joy"),
    "boredom": _set_zero(*EMOTIONS),
    "calm": _set_zero(*EMOTIONS),
    # Contempt may be amused or determined; it excludes admiration and pity.
    "contempt": _set_zero("Admiration", "Empathic Pain", "Excitement", "Joy"),
    "disgust": _set_zero("Admiration", "Amusement", "Joy"),
    "fear": _set_zero("Admiration", "Amusement", "Joy"),
    "happiness": {"Joy": 1.0, **_set_zero("Empathic Pain")},
    "neutral": _set_zero(*EMOTIONS),
    "sadness": _set_zero("Admiration", "Amusement", "Excitement", "Joy"),
    # Surprise may be pleasant or not, and is close to admiration; it excludes determination and pity.
    "surprise": _set_zero("Determination", "Empathic Pain"),
}
"""Category -> labels; targets that aren't listed are unknown (masked): neither named nor excluded by the category.

The masks are this project's choice; no corpus publishes them. A perceived fraction replaces the label of Joy when there
is one.
"""


def get_category_labels(category: str, joy: float | None = None) -> dict[str, float]:
    """Return the labels of a category, in [0, 1]; none for a category outside MASKS.

    Args:
        category: one of MASKS; any other is unknown.
        joy: perceived joy in [0, 1], instead of the category's.
    """
    return MASKS.get(category, {}) | ({} if joy is None else {"Joy": joy})
