"""Text in matplotlib figures; this module doesn't import matplotlib."""

from typing import Any, Final

from emimic.files import make_printable

_LAST_RESORT: Final = "Last Resort High-Efficiency"
"""A font with a box for every character; it comes with matplotlib."""


def make_drawable(figure: Any) -> None:
    """Make every text of a figure drawable, whatever the names of files, targets and corpora contain.

    No text is parsed as a formula. A character missing from the font becomes a box in a PNG and stays in an SVG,
    without matplotlib's warning.
    """
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set(text=make_printable(text.get_text()), parse_math=False)
        if _LAST_RESORT not in (families := text.get_fontfamily()):
            text.set_fontfamily([*families, _LAST_RESORT])
