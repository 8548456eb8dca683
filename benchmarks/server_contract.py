"""Cases of the server's OpenAPI document, made by schemathesis: each response must be one that the document names."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import hypothesis
import numpy as np
import schemathesis
import soundfile
from hypothesis import HealthCheck, strategies
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

from emimic.media import decode
from emimic.sample import get_folder
from emimic.task import SAMPLE_RATE

CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
FILES = ("file", "seed", "mimic")
OTHER_TYPES = ("text/plain", "application/json", "application/x-www-form-urlencoded", "image/png")


def make_voices() -> list[bytes]:
    """Return WAV files that can be compared: two voices of 2.8 s, five times, and once both as channels of 11 s."""
    files = sorted((get_folder() / "audio").iterdir())
    voices = [
        np.resize(np.concatenate([decode.load(file) for file in part]), 11 * SAMPLE_RATE)
        for part in (files[:3], files[3:6])
    ]
    short = [to_wav(voice[: round(2.8 * SAMPLE_RATE)]) for voice in voices]
    return [*short * 5, to_wav(np.stack(voices, axis=1))]


def to_wav(samples: Any) -> bytes:
    """Return samples (sample,) or (sample, channel) at 16 kHz as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def register_files(files: Sequence[bytes]) -> None:
    """Give schemathesis recordings for three of four binary fields and bodies; the fourth is of random bytes."""
    recordings = strategies.sampled_from(files)
    binary = strategies.one_of(recordings, recordings, recordings, strategies.binary(max_size=300))
    schemathesis.openapi.format("binary", binary)
    for kind in ("audio/*", "video/*", "application/octet-stream", "application/ogg"):
        schemathesis.openapi.media_type(kind, binary)


def call_operations(url: str, cases: dict[str, int], *, seed: int = 0) -> dict[str, Any]:
    """Call each operation, and return the numbers of cases, the statuses by operation, and the failures.

    Args:
        url: Of the server.
        cases: How many cases each operation gets, by path. Half of them break the schema; of these, one in eight has a
            content type that the document doesn't name. Of the others, half are recordings alone, without options, and
            half have a hop of .5 s or more.
        seed: Of the cases.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    statuses: dict[str, Counter[str]] = {}
    failures: Counter[str] = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()
        counts = statuses.setdefault(f"{operation.method.upper()} {operation.path}", Counter())
        for mode in MODES:
            _call(operation, mode, max(1, cases[operation.path] // 2), counts, failures, seed)
    totals = sum(statuses.values(), Counter())
    return {
        "cases": totals.total(),
        "statuses": dict(sorted(totals.items())),
        "by_operation": {name: dict(sorted(counts.items())) for name, counts in statuses.items()},
        "failures": dict(failures),
    }


def _call(
    operation: Any, mode: Any, examples: int, counts: Counter[str], failures: Counter[str], seed: int
) -> None:
    """Call an operation with cases of a mode."""
    is_post = operation.method.upper() == "POST"
    changes: Any = strategies.just(lambda case: None)
    if is_post and mode is GenerationMode.POSITIVE:
        changes = strategies.sampled_from([coarsen, leave_options_out])
    kinds: Any = strategies.none()
    if is_post and mode is GenerationMode.NEGATIVE:
        kinds = strategies.sampled_from([*[None] * 7 * len(OTHER_TYPES), *OTHER_TYPES])

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), change=changes, kind=kinds)
    def call(case: Any, change: Callable[[Any], None], kind: str | None) -> None:
        change(case)
        response = case.call(timeout=60, headers={"Content-Type": kind} if kind else None)
        counts[str(response.status_code)] += 1
        try:
            if response.status_code not in (503, 504):
                case.validate_response(response, checks=CHECKS)
        except schemathesis.errors.SchemathesisError as error:
            failures[
                f"{operation.method} {operation.path} {response.status_code}: {type(error).__name__}"
            ] += 1
        except (AssertionError, BaseExceptionGroup) as error:  # a failed check, or several
            reasons = [str(one).splitlines()[0] for one in getattr(error, "exceptions", [error])]
            failures[f"{operation.method} {operation.path} {response.status_code}: {'; '.join(reasons)}"] += 1

    with suppress(hypothesis.errors.Unsatisfiable):  # without parameters there is nothing to break
        call()


def coarsen(case: Any) -> None:
    """Raise a case's hop and window to .5 s: the strategies prefer the smallest, which take fifty times as long."""
    for options in (case.query, case.body):
        for name in ("hop", "window"):
            if isinstance(options, dict) and isinstance(options.get(name), int | float):
                options[name] = max(0.5, options[name])


def leave_options_out(case: Any) -> None:
    """Leave of a case its recordings alone, since random options rarely fit each other; and one mimic, or the seed."""
    case.query = {}
    if isinstance(case.body, dict):
        case.body = {name: value for name, value in case.body.items() if name in FILES}
        if "seed" in case.body:
            case.body["mimic"] = (case.body.get("mimic") or [case.body["seed"]])[:1]


def add_counts(first: Any, second: Any) -> Any:
    """Return the sums of two nested dictionaries of numbers; a key may be missing in either."""
    if not (first and second):
        return first or second
    if isinstance(first, dict):
        return {key: add_counts(first.get(key, 0), second.get(key, 0)) for key in {**first, **second}}
    return first + second
