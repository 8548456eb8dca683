"""Figures of matplotlib as bytes."""

import io
import threading
from typing import Any, Final, Literal

from emimic.files import make_printable
from emimic.task import EmimicError

_LAST_RESORT: Final = "Last Resort High-Efficiency"
"""A font with a box for every character; it comes with matplotlib."""

# matplotlib's settings are global: only one figure at a time is rendered with ours.
_LOCK: Final = threading.Lock()


def render(figure: Any, form: Literal["png", "svg"] = "png", *, dpi: int = 120) -> bytes:
    """Return a figure as bytes that depend on the figure alone: without dates, and with text as text in SVG.

    Raises:
        EmimicError: an unknown form.
    """
    if form not in ("png", "svg"):
        raise EmimicError(f"a plot's form is {form!r}; give png or svg.")
    import matplotlib as mpl

    file = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if form == "png" else {"Date": None, "Creator": "emimic"}
    make_drawable(figure)
    with _LOCK, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "emimic"}):
        figure.savefig(file, format=form, dpi=dpi, metadata=metadata)
    return file.getvalue()


def make_drawable(figure: Any) -> None:
    """Make every text of a figure drawable, whatever the names of files, targets and corpora contain.

    No text is parsed as a formula. A character missing from the font becomes a box in a PNG and stays in an SVG,
    without matplotlib's warning.
    """
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set(text=make_printable(text.get_text()), parse_math=False)
        if _LAST_RESORT not in (families := text.get_fontfamily()):
            text.set_fontfamily([*families, _LAST_RESORT])
