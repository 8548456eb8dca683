"""Words in messages: counts with their noun, and suggestions for a misspelled name."""

from collections.abc import Iterable
from difflib import get_close_matches


def pluralize(count: int, noun: str) -> str:
    """Return `1 clip`, `2 clips`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def suggest_name(word: str, names: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the name most similar to a word, else an empty text."""
    near = get_close_matches(word.casefold(), list(names), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
