from collections.abc import Iterator

import pytest
from tiny_server import TinyServer, running


@pytest.fixture(scope="session")
def server() -> Iterator[TinyServer]:
    with running() as server:
        yield server
