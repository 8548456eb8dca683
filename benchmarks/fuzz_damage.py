"""Damage to files, for `benchmarks.fuzz`: bits, numbers, fields or pieces changed, moved, repeated or cut."""

import random
from collections.abc import Callable

TEXT = ("table", "engine", "calibration", "journal", "run", "settings")
"""Kinds of files whose fields are replaced, too."""
FIELDS = (
    b"",
    b"-1",
    b"nan",
    b"1e400",
    b"0_5",
    b'"',
    b"\0",
    b"\xff\xfe",
    b"9" * 30,
    b"None",
    b"..",
    b"[" * 4000,
)
"""Replacements of a text's field."""


def damage(data: bytes, rng: random.Random, *, text: bool) -> bytes:
    """Apply one to four kinds of damage, one after another."""
    kinds = [*KINDS.values(), *[replace_field] * (4 * text)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            start = rng.randrange(
                len(data) if rng.random() < 0.5 else min(len(data), 200)
            )  # headers decide most
            data = rng.choice(kinds)(data, start, min(len(data) - start, 1 << rng.randrange(12)), rng)
    return data


def replace_field(data: bytes, start: int, _: int, rng: random.Random) -> bytes:
    """Replace a field of a text."""
    spots = [i for i, byte in enumerate(data) if byte in b',:\n"[ {']
    start = rng.choice(spots or [0]) + 1
    end = next((i for i in spots if i > start), len(data))
    return data[:start] + rng.choice(FIELDS) + data[end:]


def flip_bits(data: bytes, start: int, length: int, rng: random.Random) -> bytes:
    """Flip some bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 20))):
        changed[start + rng.randrange(length)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def replace_number(data: bytes, start: int, _: int, rng: random.Random) -> bytes:
    """Replace a number of a header by one at the edge of its kind."""
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)) % (1 << 8 * size)
    return data[:start] + number.to_bytes(size, rng.choice(("little", "big"))) + data[start + size :]


def move(data: bytes, start: int, length: int, rng: random.Random) -> bytes:
    """Write a piece over another one."""
    other = rng.randrange(len(data))
    return data[:other] + data[start : start + length] + data[other + length :]


KINDS: dict[str, Callable[[bytes, int, int, random.Random], bytes]] = {
    "bits": flip_bits,
    "number": replace_number,
    "moved": move,
    "bytes": lambda data, start, length, rng: data[:start] + rng.randbytes(length) + data[start + length :],
    "cut": lambda data, start, length, _: data[:start] + data[start + length :],
    "repeated": lambda data, start, length, rng: (
        data[:start] + data[start : start + length] * rng.choice((2, 3, 50)) + data[start + length :]
    ),
    "end": lambda data, start, *_: data[:start],
}
"""Kinds of damage: functions of data, a start and a length."""
