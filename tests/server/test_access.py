"""Access: a token, hosts and origins."""

import base64
import errno
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies
from local_server import serve
from starlette.datastructures import Headers

from emimic.server.access import Access, make_access, read_token
from emimic.server.errors import ApiError
from emimic.task import EmimicError

TOKEN = "correct-horse-battery"


def check(access: Access, path: str = "/v1/models", **headers: str) -> str | None:
    """Return the code of the error; None where access is granted."""
    try:
        access.check(path, Headers({name.replace("_", "-"): value for name, value in headers.items()}))
    except ApiError as error:
        return error.code
    return None


def encode_basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    ("host", "origin", "code"),
    [
        ("localhost:8000", None, None), ("127.0.0.1", None, None), ("[::1]:8000", None, None),
        ("LOCALHOST", None, None), ("evil.example", None, "unknown_host"), ("", None, "unknown_host"),
        ("localhost.evil.example", None, "unknown_host"), ("127.0.0.1.evil.example:80", None, "unknown_host"),
        ("[::1", None, "unknown_host"), ("evil.example@localhost", None, None),
        ("192.168.1.5:8000", None, None), ("[fe80::2]", None, None), ("127.0.0.1.", None, "unknown_host"),
        ("voices.example:8000", None, None), ("VOICES.example", None, None), ("a.voices.example", None, "unknown_host"),
        ("localhost:8000", "http://localhost:8000", None), ("localhost:8000", "http://localhost", "foreign_origin"),
        ("localhost:8000", "null", "foreign_origin"), ("localhost:8000", "https://evil.example", "foreign_origin"),
        ("localhost:8000", "http://127.0.0.1:8000", "foreign_origin"),
        ("localhost:8000", "https://friend.example", None),
    ],
)  # fmt: skip
def test_hosts_and_origins(host: str, origin: str | None, code: str | None) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    access = Access(hosts=("voices.example",), origins=("https://friend.example",))
    assert check(access, **headers) == code


@pytest.mark.parametrize(
    ("value", "granted"),
    [
        (f"Bearer {TOKEN}", True), (f"bearer   {TOKEN} ", True), (encode_basic(f"any:{TOKEN}"), True),
        (encode_basic(f":{TOKEN}"), True), (f"Bearer {TOKEN}x", False), (f"Bearer {TOKEN[:-1]}", False),
        ("Bearer", False), ("Bearer ", False), ("", False), (TOKEN, False), (f"Digest {TOKEN}", False),
        ("Basic ?", False), (encode_basic(TOKEN), False), (encode_basic(f"{TOKEN}:"), False), ("Bearer \u00e4", False),
    ],
)  # fmt: skip
def test_tokens(value: str, granted: bool) -> None:
    access = Access(TOKEN.encode(), hosts=None)
    assert (check(access, host="any.example", authorization=value) is None) == granted
    assert check(access, "/health", host="any.example") is None
    assert check(access, "/health/", host="any.example") == "unauthorized"


@given(strategies.text(max_size=40), strategies.sampled_from(["Bearer ", "Basic ", ""]))
def test_no_other_text_is_a_token(text: str, scheme: str) -> None:
    if text.strip() != TOKEN:
        raw = [(b"host", b"localhost"), (b"authorization", f"{scheme}{text}".encode("latin-1", "replace"))]
        with pytest.raises(ApiError):
            Access(TOKEN.encode()).check("/v1/models", Headers(raw=raw))


def test_other_machines_need_a_token_or_a_word(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with pytest.raises(EmimicError, match=r"--host 0\.0\.0\.0 lets other machines in.*--token-file FILE"):
        make_access("0.0.0.0", token_file=None, insecure=False)
    assert make_access("0.0.0.0", token_file=None, insecure=True) == Access()
    assert make_access("::1", token_file=file, insecure=False) == Access(TOKEN.encode(), hosts=None)
    assert make_access("localhost", token_file=None, insecure=False) == Access()
    given = make_access("0.0.0.0", token_file=file, insecure=False, hosts=["Voices.example"])
    assert given == Access(TOKEN.encode(), hosts=("voices.example",))
    for host in ("", "http://voices.example", "voices.example:8000", "*", "[::1]"):
        with pytest.raises(EmimicError, match=r"--allowed-host is .* expected a name such as"):
            make_access("0.0.0.0", token_file=None, insecure=True, hosts=[host])
    for origin in ("example.org", "https://example.org/", "ws://example.org", "*"):
        with pytest.raises(EmimicError, match=r"--origin is .* expected one such as"):
            make_access("localhost", token_file=None, insecure=False, origins=[origin])


WEAK = [b"", b"short", b"two words are one too many", b"\xc3\xa4" * 20, b"a" * 20 + b"\0"]


@pytest.mark.parametrize("content", WEAK)
def test_weak_tokens_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(EmimicError, match=r"token: the token can't be read \(No such file"):
        read_token(file)
    file.write_bytes(content)
    with pytest.raises(EmimicError, match=r"token: found no valid token, expected 16 or more"):
        read_token(file)


def test_a_foreign_name_that_leads_here_gets_nothing() -> None:
    with serve(
        access=make_access("0.0.0.0", token_file=None, insecure=True, hosts=["voices.example"])
    ) as client:
        for path in ("/", "/health", "/v1/models", "/nothing"):
            response = client.get(path, headers={"Host": "evil.example"})
            assert (response.status_code, response.json()["error"]["code"]) == (421, "unknown_host")
        assert client.get("/v1/models", headers={"Host": "voices.example:80"}).status_code == 200
        assert client.get("/v1/models").status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="no user ids")
def test_a_token_of_another_user_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(os, "getuid", lambda: 65534)
    with pytest.raises(
        EmimicError, match=r"can't be read \(Permission denied\)\. Let .* read it: chown 65534 FILE"
    ):
        read_token(tmp_path / "token")


def test_the_server_asks_for_the_token_and_lets_a_page_in() -> None:
    access = Access(TOKEN.encode(), hosts=None, origins=("https://friend.example",))
    with serve(access=access) as client:
        assert client.get("/v1/models").status_code == 200
        del client.headers["Authorization"]
        response = client.get("/v1/models")
        assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
        assert response.headers["www-authenticate"].startswith("Bearer, Basic")
        assert client.get("/metrics").status_code == client.get("/").status_code == 401
        preflight = client.options(
            "/v1/emotions",
            headers={
                "Origin": "https://friend.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert preflight.headers["access-control-allow-origin"] == "https://friend.example"
        assert client.get("/health", headers={"Origin": "https://evil.example"}).status_code == 403
