"""Tables of the measures of mimicry: false positives, power, and the time of a study."""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from benchmarks.mimicry_rates import NOISE
from benchmarks.results import make_table, read_results

_Key: TypeAlias = tuple[str, int]
_NOT_MEASURED: Final = "n. m."
_NAMES: Final = {
    "synthetic": "synthetic",
    "bursts": "bursts",
    "tava": "sentences",
    **dict.fromkeys(NOISE, ""),
}


def make_rates() -> str:
    """Make the fraction of unrelated single pairs with p of at most 5 %, by measure, recordings and length."""
    return _make_fractions("surrogates", missing=("tava", 300))


def make_study_rates() -> str:
    """Make the same fraction of the sessions of studies."""
    missing = "bursts", 300
    table = _make_fractions("pseudo-dyads", missing=missing)
    rows = [row for row in read_results("mimicry_rates")["rows"] if row["test"] == "pseudo-dyads"]
    texts = [f"{row['susy_es']['mean']:.2f} ({row['susy_es']['std']:.2f})" for row in rows]
    order = [_get_key(row) for row in rows]
    found = {missing: _NOT_MEASURED, **dict(zip(order, texts, strict=True))}
    last = " | ".join(["`susy_es`: mean (std)", *(found[key] for key in _list_keys(rows, missing))])
    return f"{table}\n| {last} |"


def make_power() -> str:
    """Make the fraction of coupled pairs that are found, by measure, strength and length."""
    return _make_fractions("power", "power-trios")


def make_study() -> str:
    """Make the time and memory of a study, and of one that was killed and resumed."""
    found = read_results("study")
    rows = []
    for name, words in (("whole", "as a whole"), ("killed", "until SIGKILL"), ("resumed", "resumed")):
        one = found[name]
        rows.append((words, f"{one['wall_seconds']:.0f}", f"{one['cpu_seconds']:.0f}", one["peak_mb"]))
    return make_table("run | seconds | CPU seconds | peak memory, MB", rows)


def _get_key(row: dict[str, Any]) -> _Key:
    return row["recordings"], row["seconds"]


def _list_keys(rows: list[dict[str, Any]], missing: _Key | None = None) -> list[_Key]:
    """Return the columns: kinds of recordings in the order of the results, each by length."""
    kinds = list(dict.fromkeys(row["recordings"] for row in rows))
    keys = dict.fromkeys(_get_key(row) for row in rows) | dict.fromkeys([missing] * (missing is not None))
    return sorted(keys, key=lambda key: (kinds.index(key[0]), key[1]))


def _make_fractions(*tests: str, missing: _Key | None = None) -> str:
    """Make a row per measure and a column per kind of recordings and length, in percent.

    Args:
        tests: Those whose rows are joined.
        missing: A column without results.
    """
    rows = [row for row in read_results("mimicry_rates")["rows"] if row["test"] in tests]
    keys = _list_keys(rows, missing)
    counts: dict[str, dict[_Key, list[int]]] = {}
    for row in rows:
        for name, count in row["counts"].items():
            counts.setdefault(name, {})[_get_key(row)] = count
    header = ["Measure", *(f"{_NAMES[kind] or kind} {seconds} s" for kind, seconds in keys)]
    body = [(f"`{name}`", *_format_texts(found, keys)) for name, found in counts.items()]
    numbers = [[found[key][1] for found in counts.values() if key in found] for key in keys]
    body.append(("pairs", *(str(max(column)) if column else _NOT_MEASURED for column in numbers)))
    return make_table(" | ".join(header), body)


def _format_texts(found: dict[_Key, list[int]], keys: list[_Key]) -> Iterator[str]:
    """Yield percentages; a dash where fewer than 10 pairs have a value."""
    for key in keys:
        hits, number = found.get(key, (0, 0))
        yield _NOT_MEASURED if key not in found else f"{100 * hits / number:.0f}" if number >= 10 else "-"
