"""Figures of matplotlib, which this module doesn't import: it is given one."""

from typing import Any, Final

from emimic.files import printable

_LAST: Final = "Last Resort High-Efficiency"
"""A font with a box for every character; it comes with matplotlib."""


def make_drawable(figure: Any) -> None:
    """Let every text of a figure be drawn, whatever names of files, targets or corpora hold.

    None is read as a formula. A character that the font lacks is a box in a PNG and itself in an SVG, where matplotlib
    would warn.
    """
    for text in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        text.set(text=printable(text.get_text()), parse_math=False)
        if _LAST not in (families := text.get_fontfamily()):
            text.set_fontfamily([*families, _LAST])
