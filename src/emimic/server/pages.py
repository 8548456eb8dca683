"""HTML pages of the server: a plain one with an upload form, the API's documentation, and their security policy."""

import html
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from emimic.output.html_page import NOTICE
from emimic.version import __version__

BUILT: Final = Path(__file__).parent / "built"
"""The folder of the page that `make page` builds, and `emimic serve` serves; in a wheel only if it was built before."""

PACKED: Final = ".gz"
"""Suffix of the compressed file beside a file of the page."""

POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; "
    "worker-src 'self' blob:; media-src blob:; img-src data:; base-uri 'none'; form-action 'none'"
)
"""The content security policy of the page, in its own `meta`."""

STATIC_POLICY: Final = f"{POLICY}; frame-ancestors 'none'"
"""The same in the header, where frames can be forbidden, too."""

PLAIN_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Of pages without a script."""

_META: Final = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')
_STYLE: Final = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;"
    "padding:0 1rem}table{border-collapse:collapse;margin:.5rem 0}td,th{border:1px solid #888;padding:.2rem .5rem;"
    "text-align:left;vertical-align:top}button,input,select{font:inherit;margin:.3rem 0}h2{margin-top:2rem}"
)


def get_report_policy(page: str) -> str:
    """Return the policy of an HTML report, which names the hashes of its script and style, for the header."""
    found = _META.search(page)
    policy = html.unescape(found[1]) if found else "default-src 'none'"
    return f"{policy}; frame-ancestors 'none'"


def find_page(folder: Path | None) -> Path | None:
    """Return the folder of the page: the given one or, if it was built, the package's own."""
    if folder is not None:
        return folder
    return BUILT if (BUILT / "index.html").is_file() else None


def make_start_page() -> str:
    """Return the page at `/` where the page in the browser is not built: a form that uploads a recording."""
    return _wrap(
        "emimic",
        f"<h1>How strongly does a voice express six emotions?</h1>"
        "<p>Choose a recording. It goes to the computer that runs this server, and is kept nowhere.</p>"
        '<form method="post" action="/v1/emotions?response_format=html" enctype="multipart/form-data">'
        '<p><label for="file">Recording</label> '
        '<input type="file" id="file" name="file" accept="audio/*,video/*,.flac,.opus,.oga" required></p>'
        '<p><button type="submit">Predict</button></p></form>'
        f'<p>{html.escape(NOTICE)}</p><p><a href="/docs">The API</a></p>',
    )


def make_docs_page(document: dict[str, Any]) -> str:
    """Return the documentation of an OpenAPI document; without scripts, so that no content network is needed."""
    info = document["info"]
    parts = [
        f"<h1>{html.escape(info['title'])}</h1><p>{html.escape(info.get('description', ''))}</p>",
        '<p>The same as OpenAPI, for programs: <a href="/openapi.json">/openapi.json</a></p>',
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts += _describe_operation(operation, document)
    return _wrap(info["title"], "".join(parts))


def _describe_operation(operation: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    """Yield the HTML of an operation: what it does, its parameters, its body and its responses."""
    yield f"<p>{html.escape(operation.get('description') or operation.get('summary', ''))}</p>"
    rows = [
        (parameter["name"], _name_type(parameter["schema"]), parameter.get("description", ""))
        for parameter in operation.get("parameters", [])
    ]
    yield _make_table(("parameter", "type", "meaning"), rows)
    body = operation.get("requestBody", {}).get("content", {})
    rows = [
        (name, field, part.get("description", ""))
        for name, content in body.items()
        for field, part in _resolve(content["schema"], document).get("properties", {"the body": {}}).items()
    ]
    yield _make_table(("body", "field", "meaning"), rows)
    responses = [
        (status, ", ".join(response.get("content", {})), response["description"])
        for status, response in sorted(operation["responses"].items())
    ]
    yield _make_table(("status", "type", "meaning"), responses)


def _resolve(schema: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, looked up if it is a reference."""
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _name_type(schema: dict[str, Any]) -> str:
    """Return a parameter's type in words."""
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    words = [
        " | ".join(map(str, option["enum"])) if "enum" in option else option.get("type", "")
        for option in options
    ]
    default = schema.get("default")
    return " or ".join(words) + ("" if default is None else f"; default {str(default).lower()}")


def _make_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return an HTML table; nothing without rows."""
    if not rows:
        return ""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _wrap(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="emimic {html.escape(__version__)}"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>"
    )
