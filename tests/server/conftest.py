"""A server for several tests."""

from collections.abc import Iterator

import httpx
import pytest
from local_server import serve


@pytest.fixture(scope="session")
def server() -> Iterator[httpx.Client]:
    """A client of a server with the usual limits."""
    with serve() as client:
        yield client
