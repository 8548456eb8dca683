"""Names of files that every system accepts, and that are unique."""

import re
from collections.abc import Iterable
from typing import Final

from emimic.files import fold_case

_LONGEST: Final = 160
"""Maximum bytes of a name in UTF-8: file systems take 255, of which suffixes and `replace_atomically` need some."""

# Characters that Windows and web servers refuse, control characters, and surrogates of names that are not UTF-8.
_REFUSED: Final = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]')
_DEVICES: Final = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE
)


def make_safe(text: str, longest: int = _LONGEST) -> str:
    """Return `text` as a file name of at most `longest` bytes.

    Letters of any script and spaces stay; characters that a system refuses become `_`.
    """
    name = _REFUSED.sub("_", text).strip(" .")
    name = name.encode()[:longest].decode(errors="ignore").strip(" .")
    return f"_{name}" if not name or _DEVICES.fullmatch(name) else name


def make_unique(texts: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return a safe name for each text, with numbers where needed: b, b-2, b-3.

    The names differ from each other and from `taken` also where case and Unicode form are ignored.
    """
    used = {fold_case(name) for name in taken}
    names = []
    for text in texts:
        name, number = make_safe(text), 1
        while fold_case(name) in used:
            number += 1
            name = f"{make_safe(text)}-{number}"
        used.add(fold_case(name))
        names.append(name)
    return names
