"""Import of published corpora: `emimic import NAME FOLDER --out CORPUS`.

A module per corpus declares its layout; `masks` has the labels of the six targets for each category; `importer` writes
the corpus.
"""

from typing import Final

from emimic.data.importers import crema_d, emodb, msp_podcast, nemo, ravdess
from emimic.data.importers.importer import ImportReport, import_layout
from emimic.data.importers.layout import Layout
from emimic.task import CorpusError

__all__ = ["LAYOUTS", "ImportReport", "Layout", "find_layout", "import_layout"]

LAYOUTS: Final[dict[str, Layout]] = {
    module.LAYOUT.name: module.LAYOUT for module in (crema_d, ravdess, emodb, nemo, msp_podcast)
}
"""Name on the command line -> layout."""


def find_layout(name: str) -> Layout:
    """Return the layout of a corpus by its name.

    Raises:
        CorpusError: no corpus has that name.
    """
    if name not in LAYOUTS:
        raise CorpusError(f"found {name!r}, expected a corpus of {', '.join(LAYOUTS)}. Check the spelling")
    return LAYOUTS[name]
