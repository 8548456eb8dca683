"""Cases of the OpenAPI document against a server; `benchmarks.server` makes many more."""

import httpx
from local_server import make_voice, to_wav

from benchmarks.server_contract import call_operations, register_files


def test_every_response_is_one_that_the_document_names(server: httpx.Client) -> None:
    register_files([to_wav(make_voice(0.3))])
    paths = server.get("/openapi.json").json()["paths"]
    found = call_operations(str(server.base_url).rstrip("/"), dict.fromkeys(paths, 6))
    assert not found["failures"]
    assert found["cases"] >= 12
    assert set(found["statuses"]) <= {"200", "413", "415", "422", "503", "504"}
