"""Cases of the server's OpenAPI document, made by schemathesis: each response must be one that the document names."""

from collections import Counter
from contextlib import suppress
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, strategies
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


def register_files(files: list[bytes]) -> None:
    """Give schemathesis recordings for binary fields and bodies, beside random bytes."""
    binary = strategies.one_of(strategies.sampled_from(files), strategies.binary(max_size=300))
    schemathesis.openapi.format("binary", binary)
    for kind in ("audio/*", "video/*", "application/octet-stream", "application/ogg"):
        schemathesis.openapi.media_type(kind, binary)


def call_operations(url: str, cases: dict[str, int], *, seed: int = 0) -> dict[str, Any]:
    """Call each operation, and return the numbers of cases, the statuses by operation, and the failures.

    Args:
        url: Of the server.
        cases: How many cases each operation gets, by path; half of them break the schema.
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

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[hypothesis.Phase.generate],
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        response = case.call(timeout=60)
        counts[str(response.status_code)] += 1
        try:
            if response.status_code not in (503, 504):
                case.validate_response(response, checks=CHECKS)
        except schemathesis.errors.SchemathesisError as error:
            failures[
                f"{operation.method} {operation.path} {response.status_code}: {type(error).__name__}"
            ] += 1
        except Exception as error:  # noqa: BLE001 - a group of the checks' failures
            reasons = [str(one).splitlines()[0] for one in getattr(error, "exceptions", [error])]
            failures[f"{operation.method} {operation.path} {response.status_code}: {'; '.join(reasons)}"] += 1

    with suppress(hypothesis.errors.Unsatisfiable):  # without parameters there is nothing to break
        call()


def add_counts(first: Any, second: Any) -> Any:
    """Return the sums of two nested dictionaries of numbers; a key may be missing in either."""
    if not (first and second):
        return first or second
    if isinstance(first, dict):
        return {key: add_counts(first.get(key, 0), second.get(key, 0)) for key in {**first, **second}}
    return first + second
