"""Names of files that every system takes, and that differ."""

import re
from collections.abc import Iterable
from typing import Final

from emimic.files import folded

_LONGEST: Final = 160
"""Bytes of a name in UTF-8: file systems take 255, and endings and the temporary name of `atomic` come on top."""

# What Windows and web servers refuse; control characters, and surrogates of names that are not UTF-8.
_REFUSED: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
_DEVICES: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE
)


def safe(text: str, longest: int = _LONGEST) -> str:
    """`text` as the name of a file, of at most `longest` bytes: letters of any script and spaces stay, what a system
    refuses becomes `_`."""
    name = _REFUSED.sub("_", text).strip(" .")
    name = name.encode()[:longest].decode(errors="ignore").strip(" .")
    return f"_{name}" if not name or _DEVICES.fullmatch(name) else name


def unique(texts: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A safe name for each text, no two alike (nor like `taken`) on a system that ignores case or Unicode's
    forms: b, b-2, b-3."""
    used = {folded(name) for name in taken}
    names = []
    for text in texts:
        name, number = safe(text), 1
        while folded(name) in used:
            number += 1
            name = f"{safe(text)}-{number}"
        used.add(folded(name))
        names.append(name)
    return names
