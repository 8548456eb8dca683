"""Arrays out of a pickle without unpickling it: a reader of the few operations that plain arrays need.

The features of the challenge come as pickles, and such a file may be one that someone else made. This protects from
what it could do: run code, and deny service, by using up memory or time with lengths and shapes that it only claims.

A pickle is a program. This runs none of it: it imports nothing, calls nothing that the file names, and builds only
numbers, text, bytes, lists, tuples, dicts with plain keys, and numeric NumPy arrays, which are views of the file's own
bytes. What else the file asks for is refused by name. Everything is bounded: what is built by OPERATIONS, text by
TEXT_BYTES, and no length or shape is believed that the file's bytes don't bear out.
"""

import math
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from emimic.files import need_file
from emimic.task import CorpusError

PICKLE_BYTES: Final = 192 << 20
"""Larger pickles are refused. 1249.9 s, the corpus's longest clip but one, of 768 features at 50 a second: 183 MB."""

OPERATIONS: Final = 500_000
"""A longer program is refused: a list of 10,000 arrays has half as many."""

TEXT_BYTES: Final = 1 << 25
"""Protocols 0 to 2 write an array's bytes as text, which takes up to four times as much memory. The names of all arrays
together may not be longer either."""

DEPTH: Final = 8
"""Containers in containers."""

AXES: Final = 32

_ELSEWHERE: Final = {
    ord("i"): "INST", ord("o"): "OBJ", ord("P"): "PERSID", ord("Q"): "BINPERSID", ord("S"): "STRING", 0x81: "NEWOBJ",
    0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x8F: "EMPTY_SET", 0x90: "ADDITEMS", 0x91: "FROZENSET",
    0x92: "NEWOBJ_EX", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}  # fmt: skip
"""Operations of pickle that are not done here."""

_EXPECTED: Final = "only numeric NumPy arrays in lists, tuples and dicts are read"


class RefusedError(Exception):
    """What is wrong with a pickle, as the end of a sentence that began with the file's name."""


class _Call(Enum):
    """What a file may name; each is answered by a method here, never by what bears the name."""

    RECONSTRUCT = "_reconstruct"
    FROM_BUFFER = "_frombuffer"
    SCALAR = "scalar"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    BYTES = "bytes"


_GLOBALS: Final = {
    ("numpy", "ndarray"): _Call.NDARRAY,
    ("numpy", "dtype"): _Call.DTYPE,
    ("_codecs", "encode"): _Call.ENCODE,
    ("builtins", "bytes"): _Call.BYTES,
    ("__builtin__", "bytes"): _Call.BYTES,
    **{
        (f"numpy.{core}.{module}", call.value): call
        for core in ("core", "_core")
        for module, call in (
            ("multiarray", _Call.RECONSTRUCT),
            ("multiarray", _Call.SCALAR),
            ("numeric", _Call.FROM_BUFFER),
        )
    },
}


@dataclass(slots=True, eq=False)
class _Type:
    """A dtype on its way: made of a code such as f4, then given its byte order."""

    value: np.dtype[Any]


@dataclass(slots=True, eq=False)
class _Array:
    """An array on its way: announced first, then filled."""

    value: NDArray[Any] | None = None


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Every array of a pickle by its place in it: "" for a bare array, else such as "0" or "faces/3".

    Nothing the file asks for is imported or run. The arrays are read-only.

    Raises:
        CorpusError: the file can't be read, is too large, or is no pickle of plain numeric arrays.
    """
    try:
        size = need_file(path).st_size
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
        return arrays(data)
    except RefusedError as error:
        raise CorpusError(f"{path} {error}; copy it again, or leave it out") from None


def arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Every array of a pickle by the place where it lies ("" for a bare one, else such as "faces/0"), in file order.

    They are read-only views of `data`. Raises RefusedError for everything but plain arrays.
    """
    try:
        found = list(_leaves(_Reader(data).run(), (), count()))
    except (struct.error, IndexError):
        raise RefusedError("is no pickle, or cut short or damaged") from None
    except (UnicodeError, ValueError, OverflowError, TypeError) as error:
        raise RefusedError(f"is no pickle, or damaged ({' '.join(str(error).split())[:100]})") from None
    if not found:
        raise RefusedError("holds no array")
    if sum(len(key) + 1 for place, _ in found for key in place) > TEXT_BYTES:
        raise RefusedError("has names of absurd length")
    named = {"/".join(place): array for place, array in found}
    if len(named) < len(found):
        raise RefusedError("has two arrays of one name")
    return named


def _leaves(
    one: object, place: tuple[str, ...], visits: Iterator[int]
) -> Iterator[tuple[tuple[str, ...], NDArray[Any]]]:
    """Arrays in file order. A container met again is walked again, so the walk is bounded too."""
    if next(visits) > OPERATIONS:
        raise RefusedError(f"has more than {OPERATIONS:,} members when spelt out")
    if len(place) > DEPTH:
        raise RefusedError(f"nests containers more than {DEPTH} deep")
    if isinstance(one, _Array):
        if one.value is None:
            raise RefusedError("announces an array and does not give it")
        yield place, one.value
    elif isinstance(one, list | tuple | dict):
        for key, member in one.items() if isinstance(one, dict) else enumerate(one):
            yield from _leaves(member, (*place, str(key)), visits)
    elif isinstance(one, _Call | _Type):
        raise RefusedError(f"holds something else than data; {_EXPECTED}")


class _Reader:
    """The stack machine that a pickle is written for, without its dangerous half."""

    def __init__(self, data: bytes) -> None:
        self.data, self.view, self.at = data, memoryview(data), 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.text = 0

    def run(self) -> Any:
        """The one object the file describes, all of it read."""
        for _ in range(OPERATIONS):
            at = self.at
            code = self.data[at]
            self.at += 1
            if code == ord("."):
                if self.at != len(self.data):
                    raise RefusedError(f"goes on for {len(self.data) - self.at} bytes behind its end")
                if len(self.stack) != 1 or self.marks:
                    raise RefusedError("leaves something over at its end")
                return self.stack[0]
            operation = _OPERATIONS.get(code)
            if operation is None:
                name = _ELSEWHERE.get(code)
                if name is None:
                    raise RefusedError(f"is no pickle (byte 0x{code:02x} at {at})")
                raise RefusedError(f"uses the operation {name} at byte {at}; {_EXPECTED}")
            operation(self)
        raise RefusedError(f"has more than {OPERATIONS:,} operations")

    # Reading

    def take(self, length: int) -> memoryview:
        """The next bytes, without a copy."""
        if not 0 <= length <= len(self.data) - self.at:
            raise RefusedError(
                f"claims {length} bytes where {len(self.data) - self.at} are left: cut short or damaged"
            )
        self.at += length
        return self.view[self.at - length : self.at]

    def frame(self) -> None:
        """FRAME: the length of what follows, of use only to those who read in blocks; checked and passed over."""
        length = self.number("<Q")
        self.take(length)
        self.at -= length

    def number(self, form: str) -> Any:
        """A little-endian number, or as `form` of struct says."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self, limit: int) -> bytes:
        """Up to the next newline."""
        end = self.data.find(b"\n", self.at, self.at + limit + 1)
        if end < 0:
            raise RefusedError(
                f"has no end of line within {limit} bytes of byte {self.at}: cut short or damaged"
            )
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def count_text(self, length: int) -> None:
        """Account for text, before it is made."""
        self.text += length
        if self.text > TEXT_BYTES:
            raise RefusedError(
                f"holds more than {TEXT_BYTES >> 20} MB of text; write arrays of that size with protocol 3 or later"
            )

    def utf8(self, form: str) -> None:
        """Text with its length before it."""
        length = self.number(form)
        raw = self.take(length)
        self.count_text(length)
        self.stack.append(str(raw, "utf-8", "surrogatepass"))

    def raw(self, form: str) -> None:
        """Bytes with their length before them."""
        self.stack.append(self.take(self.number(form)))

    def integer(self, length: int) -> None:
        """LONG1 or LONG4: a number of so many bytes."""
        raw = self.take(length)
        self.keep_integer(1 << 64 if length > 9 else int.from_bytes(raw, "little", signed=True))

    def keep_integer(self, value: int) -> None:
        """Only what 64 bits hold: larger ones take long to make, and can be chosen to collide as keys of a dict."""
        if not -(1 << 63) <= value < 1 << 64:
            raise RefusedError("holds an integer of more than 64 bits")
        self.stack.append(value)

    def decimal(self) -> None:
        """INT or LONG: a line such as 12, 12L, or 01 for true."""
        line = self.line(32)
        if line in (b"00", b"01"):
            self.stack.append(line == b"01")
        else:
            self.keep_integer(int(line.removesuffix(b"L")))

    def unicode_line(self) -> None:
        """UNICODE: a line with escapes."""
        line = self.line(TEXT_BYTES)
        self.count_text(len(line))
        self.stack.append(line.decode("raw_unicode_escape"))

    # The stack

    def pop(self) -> Any:
        """The top; never from below a mark."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise RefusedError("takes what it has not put down: damaged")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """All that lies above the last mark."""
        start = self.marks.pop()
        members = self.stack[start:]
        del self.stack[start:]
        return members

    def tuple_of(self, count: int) -> None:
        """The last `count` as a tuple."""
        members = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(members)))

    def top(self, kind: type) -> Any:
        """The top, left there, of a kind."""
        found = self.stack[-1]
        if type(found) is not kind:
            raise RefusedError(f"treats something else as a {kind.__name__}")
        return found

    def extend(self, members: list[Any]) -> None:
        """Into the list on top."""
        self.top(list).extend(members)

    def put_items(self, members: list[Any]) -> None:
        """Keys and values in turn into the dict on top. Keys are plain: nothing that takes long to hash."""
        target = self.top(dict)
        for key, value in zip(members[::2], members[1::2], strict=True):
            if not isinstance(key, str | int):
                raise RefusedError("has a key that is neither text nor an integer")
            target[key] = value

    def dict_of(self) -> None:
        """DICT: keys and values in turn above the mark."""
        members = self.pop_mark()
        self.stack.append({})
        self.put_items(members)

    def remember(self, place: int) -> None:
        """Into the memo, which is no list: a place may be any number."""
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        """From the memo."""
        if place not in self.memo:
            raise RefusedError(f"recalls what it has not kept (place {place}): damaged")
        self.stack.append(self.memo[place])

    # What a file names

    def name(self, module: object, name: object) -> None:
        """A global: one of the few, or the file is refused."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError(f"names something that isn't text; {_EXPECTED}")
        call = _GLOBALS.get((module, name))
        if call is None:
            raise RefusedError(f"asks for {f'{module}.{name}'[:100]!r}, which was not run; {_EXPECTED}")
        self.stack.append(call)

    def global_lines(self) -> None:
        """GLOBAL: module and name, a line each."""
        self.name(self.line(256).decode(), self.line(256).decode())

    def stack_global(self) -> None:
        """STACK_GLOBAL: module and name from the stack."""
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def reduce(self) -> None:
        """REDUCE: one of the known calls."""
        given, call = self.pop(), self.pop()
        if not isinstance(given, tuple) or not isinstance(call, _Call) or call is _Call.NDARRAY:
            raise RefusedError(f"calls something else than what makes arrays; {_EXPECTED}")
        match call, given:
            case _Call.RECONSTRUCT, (_Call.NDARRAY, (0,), _):
                self.stack.append(_Array())
            case _Call.FROM_BUFFER, (memoryview() as raw, _Type(kind), tuple(shape), ("C" | "F") as order):
                self.stack.append(_Array(_shaped(raw, kind, shape, order)))
            case _Call.SCALAR, (_Type(kind), memoryview() as raw):
                self.stack.append(_shaped(raw, kind, (), "C").item())
            case _Call.DTYPE, (code, _, _):
                self.stack.append(_Type(_plain(code)))
            case _Call.ENCODE, (str(text), "latin1" | "latin-1"):
                self.count_text(len(text))  # the same text may be asked for again and again
                self.stack.append(memoryview(text.encode("latin1")))
            case _Call.BYTES, ():
                self.stack.append(memoryview(b""))
            case _:
                raise RefusedError(f"calls {call.value} with arguments that no plain array has; {_EXPECTED}")

    def build(self) -> None:
        """BUILD: fills the array, or sets the byte order of the dtype, on top."""
        state = self.pop()
        match self.stack[-1], state:
            case _Array(None) as array, (1, tuple(shape), _Type(kind), int(fortran), memoryview() as raw):
                array.value = _shaped(raw, kind, shape, "F" if fortran else "C")
            case _Type(kind) as box, (3, ("<" | ">" | "|" | "=") as order, None, None, None, -1, -1, 0):
                box.value = kind.newbyteorder(order)
            case _:
                raise RefusedError(
                    f"fills in what no plain array has (objects, fields, metadata); {_EXPECTED}"
                )


def _plain(code: object) -> np.dtype[Any]:
    """A code such as f4 -> its dtype; only numbers of a fixed size."""
    if isinstance(code, memoryview) and len(code) < 8:
        code = str(code, "ascii")  # as Python 2 wrote it
    if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?[biufc]\d{1,2}", code):
        told = code[:40] if isinstance(code, str) else type(code).__name__
        raise RefusedError(f"has an array of type {told!r}; {_EXPECTED}")
    return np.dtype(code)


def _shaped(raw: memoryview, kind: np.dtype[Any], shape: tuple[Any, ...], order: str) -> NDArray[Any]:
    """Bytes -> the array of that shape, a view; the bytes must be as many as the shape says."""
    if not all(type(size) is int and 0 <= size < 1 << 40 for size in shape) or len(shape) > AXES:
        raise RefusedError("has an array of an impossible shape")
    if math.prod(shape) * kind.itemsize != len(raw):
        raise RefusedError(f"has an array of {len(raw)} bytes that claims the shape {shape} of {kind}")
    flat = np.frombuffer(raw, kind) if len(raw) else np.empty(0, kind)
    return flat.reshape(shape, order="F" if order == "F" else "C")


_Operation = Callable[[_Reader], Any]
_OPERATIONS: Final[dict[int, _Operation]] = {
    0x80: lambda r: r.take(1),  # PROTO
    0x95: _Reader.frame,
    ord("("): lambda r: r.marks.append(len(r.stack)),
    ord("0"): lambda r: r.pop(),
    ord("1"): lambda r: r.pop_mark(),
    ord("2"): lambda r: r.stack.append(r.stack[-1]),
    ord("N"): lambda r: r.stack.append(None),
    0x88: lambda r: r.stack.append(True),
    0x89: lambda r: r.stack.append(False),
    ord("I"): _Reader.decimal,
    ord("L"): _Reader.decimal,
    ord("J"): lambda r: r.stack.append(r.number("<i")),
    ord("K"): lambda r: r.stack.append(r.number("B")),
    ord("M"): lambda r: r.stack.append(r.number("<H")),
    0x8A: lambda r: r.integer(r.number("B")),
    0x8B: lambda r: r.integer(r.number("<i")),
    ord("F"): lambda r: r.stack.append(float(r.line(64))),
    ord("G"): lambda r: r.stack.append(r.number(">d")),
    ord("V"): _Reader.unicode_line,
    0x8C: lambda r: r.utf8("B"),
    ord("X"): lambda r: r.utf8("<I"),
    0x8D: lambda r: r.utf8("<Q"),
    ord("C"): lambda r: r.raw("B"),
    ord("B"): lambda r: r.raw("<I"),
    0x8E: lambda r: r.raw("<Q"),
    0x96: lambda r: r.raw("<Q"),  # BYTEARRAY8
    ord("U"): lambda r: r.raw("B"),  # Python 2's strings
    ord("T"): lambda r: r.raw("<i"),
    ord("]"): lambda r: r.stack.append([]),
    ord("l"): lambda r: r.stack.append(r.pop_mark()),
    ord("a"): lambda r: r.extend([r.pop()]),
    ord("e"): lambda r: r.extend(r.pop_mark()),
    ord(")"): lambda r: r.stack.append(()),
    ord("t"): lambda r: r.stack.append(tuple(r.pop_mark())),
    0x85: lambda r: r.tuple_of(1),
    0x86: lambda r: r.tuple_of(2),
    0x87: lambda r: r.tuple_of(3),
    ord("}"): lambda r: r.stack.append({}),
    ord("d"): _Reader.dict_of,
    ord("s"): lambda r: r.put_items([r.pop(), r.pop()][::-1]),
    ord("u"): lambda r: r.put_items(r.pop_mark()),
    ord("p"): lambda r: r.remember(int(r.line(20))),
    ord("q"): lambda r: r.remember(r.number("B")),
    ord("r"): lambda r: r.remember(r.number("<I")),
    0x94: lambda r: r.remember(len(r.memo)),
    ord("g"): lambda r: r.recall(int(r.line(20))),
    ord("h"): lambda r: r.recall(r.number("B")),
    ord("j"): lambda r: r.recall(r.number("<I")),
    ord("c"): _Reader.global_lines,
    0x93: _Reader.stack_global,
    ord("R"): _Reader.reduce,
    ord("b"): _Reader.build,
}
