"""The stack machine of pickle, reduced to the operations that plain arrays need.

It imports nothing and calls nothing that a file names. It builds only numbers, text, bytes, lists, tuples, dicts with
plain keys, and numeric NumPy arrays, which are views of the file's own bytes. Anything else is refused with its name.
Everything is bounded: the number of objects by OPERATIONS, text by TEXT_BYTES, and each length and shape by the file's
bytes.
"""

import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

OPERATIONS: Final = 500_000
"""Maximum number of operations: a list of 10,000 arrays has half as many."""

TEXT_BYTES: Final = 1 << 25
"""Maximum size of all text, also of the names of all arrays together.

Protocols 0 to 2 write an array's bytes as text, which takes up to four times as much memory.
"""

AXES: Final = 32

_UNSUPPORTED: Final = {
    ord("i"): "INST", ord("o"): "OBJ", ord("P"): "PERSID", ord("Q"): "BINPERSID", ord("S"): "STRING", 0x81: "NEWOBJ",
    0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x8F: "EMPTY_SET", 0x90: "ADDITEMS", 0x91: "FROZENSET",
    0x92: "NEWOBJ_EX", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}  # fmt: skip
"""Operations of pickle that are refused."""

EXPECTED: Final = "only numeric NumPy arrays in lists, tuples and dicts are read"


class RefusedError(Exception):
    """A reason to refuse a pickle, as the end of a sentence that begins with the file's name."""


class Call(Enum):
    """Globals that a file may name; each is a case of `Machine.reduce`, and the named object is never used."""

    RECONSTRUCT = "_reconstruct"
    FROM_BUFFER = "_frombuffer"
    SCALAR = "scalar"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    BYTES = "bytes"


_GLOBALS: Final = {
    ("numpy", "ndarray"): Call.NDARRAY,
    ("numpy", "dtype"): Call.DTYPE,
    ("_codecs", "encode"): Call.ENCODE,
    ("builtins", "bytes"): Call.BYTES,
    ("__builtin__", "bytes"): Call.BYTES,
    **{
        (f"numpy.{core}.{module}", call.value): call
        for core in ("core", "_core")
        for module, call in (
            ("multiarray", Call.RECONSTRUCT),
            ("multiarray", Call.SCALAR),
            ("numeric", Call.FROM_BUFFER),
        )
    },
}


@dataclass(slots=True, eq=False)
class DType:
    """A dtype under construction: from a code such as f4, then with its byte order."""

    value: np.dtype[Any]


@dataclass(slots=True, eq=False)
class Array:
    """An array under construction: declared first, then filled."""

    value: NDArray[Any] | None = None


class Machine:
    """The stack machine.

    Attributes:
        data: the bytes of the file.
        at: the position of the next byte.
        memo: objects by their number in the file, which may be any.
        text: the size of all text so far.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.view, self.at = data, memoryview(data), 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.text = 0

    def load(self) -> Any:
        """Return the one object that the file describes."""
        for _ in range(OPERATIONS):
            at = self.at
            code = self.data[at]
            self.at += 1
            if code == ord("."):
                if self.at != len(self.data):
                    raise RefusedError(f"has {len(self.data) - self.at} bytes after its end")
                if len(self.stack) != 1 or self.marks:
                    raise RefusedError("has no or several objects at its end")
                return self.stack[0]
            operation = _OPERATIONS.get(code)
            if operation is None:
                name = _UNSUPPORTED.get(code)
                if name is None:
                    raise RefusedError(f"is no pickle (byte 0x{code:02x} at {at})")
                raise RefusedError(f"uses the operation {name} at byte {at}; {EXPECTED}")
            operation(self)
        raise RefusedError(f"has more than {OPERATIONS:,} operations")

    # Reading

    def read(self, length: int) -> memoryview:
        """Return the next bytes, without a copy."""
        if not 0 <= length <= len(self.data) - self.at:
            raise RefusedError(
                f"claims {length} bytes where {len(self.data) - self.at} are left: cut short or damaged"
            )
        self.at += length
        return self.view[self.at - length : self.at]

    def check_frame(self) -> None:
        """Check the length of the next FRAME, which only readers of blocks need."""
        length = self.read_number("<Q")
        self.read(length)
        self.at -= length

    def read_number(self, form: str) -> Any:
        """Return the next number, in a format of struct."""
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def read_line(self, limit: int) -> bytes:
        """Return the bytes up to the next newline."""
        end = self.data.find(b"\n", self.at, self.at + limit + 1)
        if end < 0:
            raise RefusedError(
                f"has no end of line within {limit} bytes of byte {self.at}: cut short or damaged"
            )
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def count_text(self, length: int) -> None:
        """Add to the size of all text, before it is created; raise RefusedError above TEXT_BYTES."""
        self.text += length
        if self.text > TEXT_BYTES:
            raise RefusedError(
                f"holds more than {TEXT_BYTES >> 20} MB of text; write arrays of that size with protocol 3 or later"
            )

    def push_text(self, form: str) -> None:
        """Push UTF-8 text with its length before it."""
        length = self.read_number(form)
        raw = self.read(length)
        self.count_text(length)
        self.stack.append(str(raw, "utf-8", "surrogatepass"))

    def push_bytes(self, form: str) -> None:
        """Push bytes with their length before them."""
        self.stack.append(self.read(self.read_number(form)))

    def push_long(self, length: int) -> None:
        """Push the integer of LONG1 or LONG4, which has `length` bytes."""
        raw = self.read(length)
        self.push_integer(1 << 64 if length > 9 else int.from_bytes(raw, "little", signed=True))

    def push_integer(self, value: int) -> None:
        """Push an integer of up to 64 bits: larger ones are slow, and can be chosen to collide as keys of a dict."""
        if not -(1 << 63) <= value < 1 << 64:
            raise RefusedError("holds an integer of more than 64 bits")
        self.stack.append(value)

    def push_decimal(self) -> None:
        """Push the value of INT or LONG: a line such as 12, 12L, or 01 for True."""
        line = self.read_line(32)
        if line in (b"00", b"01"):
            self.stack.append(line == b"01")
        else:
            self.push_integer(int(line.removesuffix(b"L")))

    def push_unicode(self) -> None:
        """Push the text of UNICODE: a line with escapes."""
        line = self.read_line(TEXT_BYTES)
        self.count_text(len(line))
        self.stack.append(line.decode("raw_unicode_escape"))

    # The stack

    def pop(self) -> Any:
        """Remove and return the top; refuse to go below a mark."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise RefusedError("pops from an empty stack: damaged")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Remove and return all objects above the last mark."""
        start = self.marks.pop()
        objects = self.stack[start:]
        del self.stack[start:]
        return objects

    def push_tuple(self, count: int) -> None:
        """Replace the last `count` objects by their tuple."""
        objects = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(objects)))

    def get_top(self, kind: type) -> Any:
        """Return the top, which must be of a type."""
        top = self.stack[-1]
        if type(top) is not kind:
            raise RefusedError(f"treats something else as a {kind.__name__}")
        return top

    def extend_list(self, objects: list[Any]) -> None:
        """Append objects to the list on top."""
        self.get_top(list).extend(objects)

    def update_dict(self, items: list[Any]) -> None:
        """Add alternating keys and values to the dict on top; keys are text or integers, which are fast to hash."""
        target = self.get_top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise RefusedError("has a key that is neither text nor an integer")
            target[key] = value

    def push_dict(self) -> None:
        """Replace the alternating keys and values above the mark by their dict."""
        items = self.pop_mark()
        self.stack.append({})
        self.update_dict(items)

    def memoize(self, number: int) -> None:
        """Store the top in the memo."""
        self.memo[number] = self.stack[-1]

    def push_memo(self, number: int) -> None:
        """Push an object of the memo."""
        if number not in self.memo:
            raise RefusedError(f"has no object {number} in its memo: damaged")
        self.stack.append(self.memo[number])

    # Globals

    def push_global(self, module: object, name: object) -> None:
        """Push the Call of a global; raise RefusedError for all other names."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError(f"names something that isn't text; {EXPECTED}")
        call = _GLOBALS.get((module, name))
        if call is None:
            raise RefusedError(f"asks for {f'{module}.{name}'[:100]!r}, which was not run; {EXPECTED}")
        self.stack.append(call)

    def push_global_line(self) -> None:
        """Push the Call of GLOBAL: module and name in two lines."""
        self.push_global(self.read_line(256).decode(), self.read_line(256).decode())

    def push_stack_global(self) -> None:
        """Push the Call of STACK_GLOBAL: module and name from the stack."""
        name, module = self.pop(), self.pop()
        self.push_global(module, name)

    def reduce(self) -> None:
        """Replace a Call and its arguments by the result."""
        arguments, call = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not isinstance(call, Call) or call is Call.NDARRAY:
            raise RefusedError(f"calls something else than what makes arrays; {EXPECTED}")
        match call, arguments:
            case Call.RECONSTRUCT, (Call.NDARRAY, (0,), _):
                self.stack.append(Array())
            case Call.FROM_BUFFER, (memoryview() as raw, DType(kind), tuple(shape), ("C" | "F") as order):
                self.stack.append(Array(_make_array(raw, kind, shape, order)))
            case Call.SCALAR, (DType(kind), memoryview() as raw):
                self.stack.append(_make_array(raw, kind, (), "C").item())
            case Call.DTYPE, (code, _, _):
                self.stack.append(DType(_make_dtype(code)))
            case Call.ENCODE, (str(text), "latin1" | "latin-1"):
                self.count_text(len(text))  # the same text may be encoded many times
                self.stack.append(memoryview(text.encode("latin1")))
            case Call.BYTES, ():
                self.stack.append(memoryview(b""))
            case _:
                raise RefusedError(f"calls {call.value} with arguments that no plain array has; {EXPECTED}")

    def build(self) -> None:
        """Fill the array, or set the byte order of the dtype, on top."""
        state = self.pop()
        match self.stack[-1], state:
            case Array(None) as array, (1, tuple(shape), DType(kind), int(fortran), memoryview() as raw):
                array.value = _make_array(raw, kind, shape, "F" if fortran else "C")
            case DType(kind) as box, (3, ("<" | ">" | "|" | "=") as order, None, None, None, -1, -1, 0):
                box.value = kind.newbyteorder(order)
            case _:
                raise RefusedError(
                    f"fills in what no plain array has (objects, fields, metadata); {EXPECTED}"
                )


def _make_dtype(code: object) -> np.dtype[Any]:
    """Return the dtype of a code such as f4; only numbers of a fixed size."""
    if isinstance(code, memoryview) and len(code) < 8:
        code = str(code, "ascii")  # as written by Python 2
    if not isinstance(code, str) or not re.fullmatch(r"[<>=|]?[biufc]\d{1,2}", code):
        name = code[:40] if isinstance(code, str) else type(code).__name__
        raise RefusedError(f"has an array of type {name!r}; {EXPECTED}")
    return np.dtype(code)


def _make_array(raw: memoryview, kind: np.dtype[Any], shape: tuple[Any, ...], order: str) -> NDArray[Any]:
    """Return a view of bytes as an array, whose size must be that of the bytes."""
    if not all(type(size) is int and 0 <= size < 1 << 40 for size in shape) or len(shape) > AXES:
        raise RefusedError("has an array of an impossible shape")
    if math.prod(shape) * kind.itemsize != len(raw):
        raise RefusedError(f"has an array of {len(raw)} bytes that claims the shape {shape} of {kind}")
    flat = np.frombuffer(raw, kind) if len(raw) else np.empty(0, kind)
    return flat.reshape(shape, order="F" if order == "F" else "C")


_Operation = Callable[[Machine], Any]
_OPERATIONS: Final[dict[int, _Operation]] = {
    0x80: lambda r: r.read(1),  # PROTO
    0x95: Machine.check_frame,
    ord("("): lambda r: r.marks.append(len(r.stack)),
    ord("0"): lambda r: r.pop(),
    ord("1"): lambda r: r.pop_mark(),
    ord("2"): lambda r: r.stack.append(r.stack[-1]),
    ord("N"): lambda r: r.stack.append(None),
    0x88: lambda r: r.stack.append(True),
    0x89: lambda r: r.stack.append(False),
    ord("I"): Machine.push_decimal,
    ord("L"): Machine.push_decimal,
    ord("J"): lambda r: r.stack.append(r.read_number("<i")),
    ord("K"): lambda r: r.stack.append(r.read_number("B")),
    ord("M"): lambda r: r.stack.append(r.read_number("<H")),
    0x8A: lambda r: r.push_long(r.read_number("B")),
    0x8B: lambda r: r.push_long(r.read_number("<i")),
    ord("F"): lambda r: r.stack.append(float(r.read_line(64))),
    ord("G"): lambda r: r.stack.append(r.read_number(">d")),
    ord("V"): Machine.push_unicode,
    0x8C: lambda r: r.push_text("B"),
    ord("X"): lambda r: r.push_text("<I"),
    0x8D: lambda r: r.push_text("<Q"),
    ord("C"): lambda r: r.push_bytes("B"),
    ord("B"): lambda r: r.push_bytes("<I"),
    0x8E: lambda r: r.push_bytes("<Q"),
    0x96: lambda r: r.push_bytes("<Q"),  # BYTEARRAY8
    ord("U"): lambda r: r.push_bytes("B"),  # Python 2's strings
    ord("T"): lambda r: r.push_bytes("<i"),
    ord("]"): lambda r: r.stack.append([]),
    ord("l"): lambda r: r.stack.append(r.pop_mark()),
    ord("a"): lambda r: r.extend_list([r.pop()]),
    ord("e"): lambda r: r.extend_list(r.pop_mark()),
    ord(")"): lambda r: r.stack.append(()),
    ord("t"): lambda r: r.stack.append(tuple(r.pop_mark())),
    0x85: lambda r: r.push_tuple(1),
    0x86: lambda r: r.push_tuple(2),
    0x87: lambda r: r.push_tuple(3),
    ord("}"): lambda r: r.stack.append({}),
    ord("d"): Machine.push_dict,
    ord("s"): lambda r: r.update_dict([r.pop(), r.pop()][::-1]),
    ord("u"): lambda r: r.update_dict(r.pop_mark()),
    ord("p"): lambda r: r.memoize(int(r.read_line(20))),
    ord("q"): lambda r: r.memoize(r.read_number("B")),
    ord("r"): lambda r: r.memoize(r.read_number("<I")),
    0x94: lambda r: r.memoize(len(r.memo)),
    ord("g"): lambda r: r.push_memo(int(r.read_line(20))),
    ord("h"): lambda r: r.push_memo(r.read_number("B")),
    ord("j"): lambda r: r.push_memo(r.read_number("<I")),
    ord("c"): Machine.push_global_line,
    0x93: Machine.push_stack_global,
    ord("R"): Machine.reduce,
    ord("b"): Machine.build,
}
