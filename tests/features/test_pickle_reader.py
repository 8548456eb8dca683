"""The gate for pickles: honest arrays of every protocol come through, hostile files are named and never run."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emimic
from emimic.features.pickle_reader import PICKLE_BYTES, read_arrays
from emimic.task import CorpusError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        RNG.standard_normal((7, 3)).astype(np.float32),
        np.asfortranarray(RNG.standard_normal((5, 4))),
        RNG.standard_normal((8, 6))[::2, 1:],
        RNG.standard_normal((3, 2)).astype(">f8"),
        RNG.standard_normal((2, 3, 4)).astype(np.float16),
        np.arange(300, dtype=np.uint8),
        np.arange(-4, 4, dtype=">i2"),
        np.array([2**63 - 1, -(2**63)]),
        np.array([True, False]),
        np.array([1 + 2j, 3 - 1j], np.complex64),
        np.zeros((0, 384), np.float32),
        np.array(2.5),
    ],
    ids=lambda array: f"{array.dtype.str}{list(array.shape)}",
)
def test_an_array_of_any_protocol_is_read_as_it_was_written(
    tmp_path: Path, array: np.ndarray, protocol: int
) -> None:
    file = tmp_path / "00001.pkl"
    file.write_bytes(pickle.dumps(array, protocol))
    ((name_in_file, actual),) = read_arrays(file).items()
    assert name_in_file == ""
    assert actual.dtype == array.dtype
    np.testing.assert_array_equal(actual, array, strict=True)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_in_lists_and_dicts_are_named_by_their_place(tmp_path: Path, protocol: int) -> None:
    shared = np.arange(3.0)
    content = {
        "frames": [shared, shared, np.ones((2, 2), np.float32)],
        7: (np.float32(0.5), "text\n €😀", b"bytes", None, True, -3, 2**40, 0.1),
        "nested": {"a": {"b": np.arange(2)}},
    }
    file = tmp_path / "clip.pkl"
    file.write_bytes(pickle.dumps(content, protocol))
    actual = read_arrays(file)
    assert list(actual) == ["frames/0", "frames/1", "frames/2", "nested/a/b"]
    np.testing.assert_array_equal(actual["frames/1"], shared)
    np.testing.assert_array_equal(actual["nested/a/b"], [0, 1])


def test_the_older_names_of_numpy_are_known(tmp_path: Path) -> None:
    array = RNG.standard_normal((4, 2))
    for protocol in range(6):
        data = pickle.dumps(array, protocol)
        # Protocol 4 and 5 count the letters of a name.
        old = data.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
        old = old.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
        old = old.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
        if protocol >= 4:
            start = old.index(b"\x95")
            old = old[: start + 1] + struct.pack("<Q", len(old) - start - 9) + old[start + 9 :]
        assert b"_core" not in old
        file = tmp_path / f"{protocol}.pkl"
        file.write_bytes(old)
        np.testing.assert_array_equal(read_arrays(file)[""], array)


def test_a_list_of_ten_thousand_arrays_is_no_bomb(tmp_path: Path) -> None:
    file = tmp_path / "clip.pkl"
    file.write_bytes(pickle.dumps([np.full(4, i, np.float32) for i in range(10_000)]))
    actual = read_arrays(file)
    assert [int(array[0]) for array in actual.values()] == list(range(10_000))


# Hostile files. Those that would run something would leave a file in the folder CANARY stands for.

CANARY = "CANARY/ran"
COMMAND = f"touch {CANARY}".encode()


class Reduced:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def call(module: str, name: str, *arguments: str) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + b"".join(map(text, arguments)) + b"tR."


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
F4 = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4I00\nI01\ntR(I3\nX\x01\x00\x00\x00<NNNI-1\nI-1\nI0\ntb"


def array(shape: bytes, kind: bytes = F4, raw: bytes = b"C\x08" + bytes(8)) -> bytes:
    return RECONSTRUCT + b"(I1\n(" + shape + b"t" + kind + b"I00\n" + raw + b"tb."


def dtype(code: bytes, state: bytes = b"") -> bytes:
    head = b"cnumpy\ndtype\n(X" + struct.pack("<I", len(code)) + code + b"I00\nI01\ntR"
    return array(b"I2\n", head + state)


def laughs(member: bytes) -> bytes:
    return b"\x80\x02" + member + b"2\x86" * 60 + b"."


FILES: dict[str, Callable[[], bytes]] = {
    "os.system by REDUCE, protocol 0": lambda: b"cos\nsystem\n(V" + COMMAND + b"\ntR.",
    "posix.system as pickle writes it": lambda: pickle.dumps(Reduced(os.system, (COMMAND.decode(),))),
    "os.system by STACK_GLOBAL": lambda: call("os", "system", COMMAND.decode()),
    "builtins.eval": lambda: call("builtins", "eval", f"open('{CANARY}', 'w')"),
    "builtins.exec": lambda: call("builtins", "exec", f"open('{CANARY}', 'w')"),
    "__builtin__.eval": lambda: b"c__builtin__\neval\n(Vopen('" + CANARY.encode() + b"', 'w')\ntR.",
    "builtins.open": lambda: call("builtins", "open", CANARY, "w"),
    "builtins.getattr": lambda: call("builtins", "getattr", "numpy", "core"),
    "builtins.__import__": lambda: call("builtins", "__import__", "antigravity"),
    "subprocess.Popen": lambda: pickle.dumps(Reduced(subprocess.Popen, (["touch", CANARY],))),
    "INST": lambda: b"(V" + COMMAND + b"\nios\nsystem\n.",
    "OBJ": lambda: b"(cos\nsystem\nV" + COMMAND + b"\no.",
    "OBJ of an allowed class": lambda: b"(cnumpy\nndarray\n(I9999999\nto.",
    "NEWOBJ": lambda: b"\x80\x02csubprocess\nPopen\n(](Vtouch\nV" + CANARY.encode() + b"\net\x81.",
    "NEWOBJ of an allowed class": lambda: b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7ft\x81.",
    "NEWOBJ_EX": lambda: b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "BUILD that calls __setstate__": lambda: b"c_codecs\nencode\n}V__setstate__\ncos\nsystem\nsbV"
    + COMMAND
    + b"\nb.",
    "BUILD of a class's dict": lambda: b"cnumpy\nndarray\n}Vx\nI1\nsb.",
    "EXT1": lambda: b"\x80\x02\x82\x01(V" + COMMAND + b"\ntR.",
    "EXT2": lambda: b"\x80\x02\x83\x01\x01(V" + COMMAND + b"\ntR.",
    "EXT4": lambda: b"\x80\x02\x84\x01\x01\x01\x01(V" + COMMAND + b"\ntR.",
    "PERSID": lambda: b"Pos.system\n.",
    "BINPERSID": lambda: b"\x80\x02V" + COMMAND + b"\nQ.",
    "numpy.f2py runs commands": lambda: call("numpy.f2py.crackfortran", "myeval", f"open('{CANARY}','w')"),
    "numpy.testing runs strings": lambda: call("numpy.testing._private.utils", "runstring", "1", "{}"),
    "numpy.load of a pickle": lambda: call("numpy", "load", "other.pkl"),
    "a dotted name through numpy": lambda: call("numpy", "ndarray.__class__", "x"),
    "a dotted name to os": lambda: call("numpy", "os.system", COMMAND.decode()),
    "an odd module": lambda: b"\x80\x04K\x01" + text("system") + b"\x93)R.",
    "torch's storages": lambda: call("torch._utils", "_rebuild_tensor_v2", "x"),
    "_reconstruct of another class": lambda: b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\n(I0\ntC\x01btR.",
    "_reconstruct of a huge shape": lambda: (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftC\x01btR."
    ),
    "_reconstruct never filled": lambda: RECONSTRUCT + b".",
    "_codecs.encode with zlib": lambda: call("_codecs", "encode", "x" * 1000, "zlib_codec"),
    "_codecs.encode with idna": lambda: call("_codecs", "encode", "x" * 1_000_000, "idna"),
    "_codecs.encode again and again": lambda: (
        b"\x80\x02c_codecs\nencode\nq\x00"
        + text("x" * 1_000_000)
        + text("latin1")
        + b"\x86q\x01"
        + b"h\x00h\x01R" * 20_000
        + b"."
    ),
    "an array of objects": lambda: pickle.dumps(np.array([Reduced(os.system, (COMMAND.decode(),))], object)),
    "an array of None": lambda: pickle.dumps(np.array([None], object), 2),
    "fields": lambda: pickle.dumps(np.zeros(2, [("a", "f4"), ("b", "O")])),
    "metadata": lambda: dtype(b"f4", b"(I4\nX\x01\x00\x00\x00<NNNI-1\nI-1\nI0\n}tb"),
    "a dtype that allocates": lambda: dtype(b"V2147483647"),
    "a dtype of a repeat": lambda: dtype(b"(2147483647,2147483647)f4"),
    "a dtype of commas": lambda: dtype(b"f4," * 300_000),
    "strings": lambda: pickle.dumps(np.array(["a", "b"])),
    "a masked array": lambda: pickle.dumps(np.ma.masked_array([1.0, 2.0], [0, 1])),
    "a shape beyond its bytes": lambda: array(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f"),
    "a negative shape": lambda: array(b"I-1\nI-2\n"),
    "an empty array of a huge shape": lambda: array(
        b"I0\n" + b"I1099511627775\n" * 31, raw=b"C\x00"
    ),
    "a shape of a thousand axes": lambda: array(b"I1\n" * 1000 + b"I2\n"),
    "BINUNICODE8 of 2^62": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "BINBYTES8 of 2^62": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",
    "BINBYTES8 of 2^64 - 1": lambda: b"\x80\x04\x8e" + b"\xff" * 8 + b"x.",
    "BYTEARRAY8 of 2^62": lambda: b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b"x.",
    "FRAME of 2^62": lambda: b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "BINSTRING of a negative length": lambda: b"T\xff\xff\xff\xff.",
    "LONG4 of two gigabytes": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "LONG4 of ten megabytes": lambda: b"\x80\x02\x8b" + struct.pack("<i", 10**7) + b"\x7f" * 10**7 + b".",
    "LONG4 of a negative length": lambda: b"\x80\x02\x8b\xff\xff\xff\xff\x01.",
    "a decimal of a million digits": lambda: b"L" + b"9" * 1_000_000 + b"L\n.",
    "keys that collide": lambda: (
        b"\x80\x02}(" + b"".join(
            b"\x8a\x0b" + (key * (2**61 - 1)).to_bytes(11, "little", signed=True) + b"N" for key in range(1, 99_999)
        ) + b"u."
    ),
    "a key that takes for ever to hash": lambda: b"\x80\x02}N" + b"2\x86" * 60 + b"Ns.",
    "LONG_BINPUT far out": lambda: b"\x80\x02Nr\xff\xff\xff\x7f.",
    "LONG_BINPUT further, often": lambda: b"\x80\x02N" + b"".join(
        b"r" + struct.pack("<I", (1 << 32) - 1 - i * 4096) for i in range(100_000)
    ) + b".",
    "PUT of a long number": lambda: b"Np" + b"9" * 100_000 + b"\n.",
    "billion laughs of None": lambda: laughs(b"N"),
    "billion laughs of arrays": lambda: laughs(array(b"I2\n")[:-1]),
    "billion laughs of lists": lambda: (
        b"\x80\x02]q\x00"
        + b"".join(b"](" + (b"h" + bytes([i])) * 10 + b"eq" + bytes([i + 1]) for i in range(40))
        + b"."
    ),
    "a long name for many arrays": lambda: (
        b"\x80\x02" + array(b"I2\n")[:-1] + b"q\x000}" + text("x" * 1_000_000) + b"](" + b"h\x00" * 100_000 + b"es."
    ),
    "an array often and deep": lambda: (
        b"\x80\x02"
        + array(b"I2\n")[:-1]
        + (b"q\x000](" + b"h\x00" * 400_000 + b"e" + b"\x85" * 7)
        + (b"q\x01(" + b"h\x01" * 20 + b"t.")
    ),
    "two arrays of one name": lambda: pickle.dumps({1: np.ones(1), "1": np.ones(2)}),
    "a list in itself": lambda: b"\x80\x02]q\x00h\x00a.",
    "a hundred thousand lists deep": lambda: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a hundred thousand tuples deep": lambda: b"\x80\x02N" + b"\x85" * 100_000 + b".",
    "a million marks": lambda: b"\x80\x02" + b"(" * 1_000_000 + b".",
    "twenty million lists": lambda: b"\x80\x02" + b"]" * 20_000_000 + b".",
    "twenty million dicts remembered": lambda: b"\x80\x04" + b"}\x94" * 10_000_000 + b".",
    "no end": lambda: b"\x80\x02N0" * 100_000,
    "truncated": lambda: pickle.dumps(np.arange(100.0))[:-300],
    "truncated in a number": lambda: b"\x80\x02J\x01",
    "garbage behind": lambda: pickle.dumps(np.arange(3.0)) + b"garbage",
    "a second pickle behind": lambda: pickle.dumps(np.arange(3.0)) + b"cos\nsystem\n(V" + COMMAND + b"\ntR.",
    "more than one object": lambda: b"\x80\x02NN.",
    "an empty stack": lambda: b"\x80\x02.",
    "POP of nothing": lambda: b"\x80\x020.",
    "GET of nothing": lambda: b"\x80\x02h\x07.",
    "APPEND to a number": lambda: b"\x80\x02K\x01K\x02a.",
    "bad UTF-8": lambda: b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "empty": lambda: b"",
    "no pickle": lambda: b"Filename,Joy\n00001,0.5\n",
    "an image": lambda: b"\x89PNG\r\n\x1a\n" + bytes(100),
    "gzip": lambda: b"\x1f\x8b\x08\x00" + bytes(50),
    "a zip as torch writes": lambda: b"PK\x03\x04" + bytes(50),
    "zeros": lambda: bytes(1 << 20),
    "no array": lambda: pickle.dumps({"a": [1, 2, 3]}),
    "a class instead of an array": lambda: b"\x80\x02cnumpy\nndarray\n.",
    "a NEXT_BUFFER out of band": lambda: b"\x80\x05\x97.",
    "a set": lambda: pickle.dumps({1, 2}),
}  # fmt: skip

# One process tries them all; its memory may grow by 512 MB, file and all.
TRY_ALL = """
import json, resource, sys, time
from pathlib import Path
from emimic.features.pickle_reader import read_arrays
from emimic.task import CorpusError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20),) * 2)
before = set(sys.modules)
outcomes = {}
for file in sorted(Path(sys.argv[1]).glob("*.pkl")):
    start = time.process_time()
    try:
        outcome = f"read: {read_arrays(file)}"
    except CorpusError as error:
        outcome = str(error)
    except BaseException as error:
        outcome = f"raised {type(error).__name__}: {error}"
    outcomes[file.name] = [outcome, time.process_time() - start]
print(json.dumps({"outcomes": outcomes, "imported": sorted(set(sys.modules) - before)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_no_hostile_pickle_runs_takes_much_memory_or_time(tmp_path: Path) -> None:
    assert len(FILES) >= 50
    canary, folder = tmp_path / "canary", tmp_path / "pickles"
    canary.mkdir()
    folder.mkdir()
    names = {f"{i:03d}.pkl": name for i, name in enumerate(FILES)}
    for file, name in names.items():
        (folder / file).write_bytes(FILES[name]())
    with (folder / "worst.pkl").open("wb") as worst:
        # As many objects as there may be, letters of four bytes each, and bytes up to the largest size.
        letters = b"x" * (2**25 - 4) + "😀".encode()
        worst.write(b"\x80\x04" + b"C\x00\x94" * 249_990 + b"X" + struct.pack("<I", len(letters)) + letters)
        worst.write(b"\x8e" + struct.pack("<Q", PICKLE_BYTES - worst.tell() - 10))
        worst.truncate(PICKLE_BYTES - 1)
        worst.seek(PICKLE_BYTES - 1)
        worst.write(b".")
    with (folder / "large.pkl").open("wb") as large:
        large.truncate(PICKLE_BYTES + 1)
    names |= {"worst.pkl": "the most memory", "large.pkl": "more than 192 MB"}
    # Relative: the files say CANARY/ran.
    (tmp_path / "CANARY").symlink_to(canary)
    home = str(Path(emimic.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL, str(folder)], capture_output=True, text=True, check=True, cwd=tmp_path,
        timeout=300, env={**os.environ, "PYTHONPATH": home},
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert set(report["outcomes"]) == set(names)
    for file, (outcome, seconds) in report["outcomes"].items():
        assert outcome.startswith(str(folder / file)), f"{names[file]}: {outcome[:300]}"
        assert seconds < 5, f"{names[file]} took {seconds:.1f} s"
        assert len(outcome) < 600
    assert not list(canary.iterdir())
    assert {"pickle", "subprocess", "os.system", "numpy.f2py", "antigravity"}.isdisjoint(report["imported"])


def test_the_canary_works(tmp_path: Path) -> None:
    """Python's own reader runs the first of them, so that the test above could fail."""
    (tmp_path / "CANARY").mkdir()
    data = FILES["os.system by REDUCE, protocol 0"]()
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.loads({data!r})"], check=True, cwd=tmp_path)
    assert (tmp_path / CANARY).exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system by STACK_GLOBAL", "os.system"),
        ("numpy.load of a pickle", "numpy.load"),
        ("INST", "INST"),
        ("a dtype that allocates", "V2147483647"),
        ("garbage behind", "7 bytes after its end"),
        ("no pickle", "is no pickle"),
    ],
)
def test_the_error_says_what_was_found(tmp_path: Path, name: str, message: str) -> None:
    file = tmp_path / "00042.pkl"
    file.write_bytes(FILES[name]())
    with pytest.raises(CorpusError, match=r"00042\.pkl") as caught:
        read_arrays(file)
    assert message in str(caught.value)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pkl"):
        with pytest.raises(CorpusError, match=path.name):
            read_arrays(path)


@pytest.mark.parametrize("name", FILES)
def test_each_hostile_pickle_is_refused_by_its_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "CANARY").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.pkl").write_bytes(FILES[name]())
    with pytest.raises(CorpusError, match=r"clip\.pkl "):
        read_arrays("clip.pkl")
    assert not (tmp_path / CANARY).exists()
