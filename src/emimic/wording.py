"""Words of messages: counts with their noun, and the name that a user may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def plural(count: int, noun: str) -> str:
    """Return `1 clip`, `2 clips`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name nearest to a word, else an empty text."""
    near = get_close_matches(word.casefold(), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
