"""Arrays from a pickle, without unpickling it.

The features of the challenge are pickles, and such a file may come from anyone. Unpickling it could run code, or use up
memory or time with lengths and shapes that it only claims. `pickle_machine` does neither.
"""

import os
import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from emimic.features.pickle_machine import (
    EXPECTED,
    OPERATIONS,
    TEXT_BYTES,
    Array,
    Call,
    DType,
    Machine,
    RefusedError,
)
from emimic.files import check_file
from emimic.task import CorpusError

PICKLE_BYTES: Final = 192 << 20
"""Maximum size of a file. 1249.9 s, the corpus's longest clip but one, of 768 features at 50 per second: 183 MB."""

DEPTH: Final = 8
"""Maximum depth of nested containers."""


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return every array of a pickle by its path in it: "" for a bare array, else such as "0" or "faces/3".

    Nothing that the file names is imported or called. The arrays are read-only.

    Raises:
        CorpusError: if the file can't be read, is too large, or is no pickle of plain numeric arrays.
    """
    try:
        size = check_file(path).st_size
        if size > PICKLE_BYTES:
            raise CorpusError(
                f"{path} has {size:,} bytes, expected at most {PICKLE_BYTES:,} of a clip's features: cut the clip, or "
                "leave it out"
            )
        with Path(path).open("rb") as file:
            data = file.read(size)
    except OSError as error:
        raise CorpusError(f"{path} can't be read ({error}); expected a pickle of arrays") from error
    if not data:
        raise CorpusError(f"{path} is empty; expected a pickle of arrays: copy it again")
    try:
        return _load_arrays(data)
    except RefusedError as error:
        raise CorpusError(f"{path} {error}; copy it again, or leave it out") from None


def _load_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Return every array by its path, in file order, as read-only views of `data`.

    Raises:
        RefusedError: for everything but plain arrays.
    """
    try:
        arrays = list(_list_arrays(Machine(data).load(), (), count()))
    except (struct.error, IndexError):
        raise RefusedError("is no pickle, or cut short or damaged") from None
    except (UnicodeError, ValueError, OverflowError, TypeError) as error:
        raise RefusedError(f"is no pickle, or damaged ({' '.join(str(error).split())[:100]})") from None
    if not arrays:
        raise RefusedError("holds no array")
    if sum(len(key) + 1 for keys, _ in arrays for key in keys) > TEXT_BYTES:
        raise RefusedError("has names of absurd length")
    by_path = {"/".join(keys): array for keys, array in arrays}
    if len(by_path) < len(arrays):
        raise RefusedError("has two arrays of one name")
    return by_path


def _list_arrays(
    value: object, keys: tuple[str, ...], visits: Iterator[int]
) -> Iterator[tuple[tuple[str, ...], NDArray[Any]]]:
    """Yield keys and arrays in file order. A container may occur many times, so visits are bounded, too."""
    if next(visits) > OPERATIONS:
        raise RefusedError(f"has more than {OPERATIONS:,} objects in its containers")
    if len(keys) > DEPTH:
        raise RefusedError(f"nests containers more than {DEPTH} deep")
    if isinstance(value, Array):
        if value.value is None:
            raise RefusedError("declares an array without its values")
        yield keys, value.value
    elif isinstance(value, list | tuple | dict):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _list_arrays(entry, (*keys, str(key)), visits)
    elif isinstance(value, Call | DType):
        raise RefusedError(f"holds something else than data; {EXPECTED}")
