from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from kubesynth_testing.object_stores import (
    S3_STORES,
    STORES,
    ObjectStoreServer,
    serve,
)


@pytest.fixture(scope="package")
def running() -> Iterator[Callable[[str], ObjectStoreServer]]:
    """Start a store when it is first asked for, and stop them all at the end."""
    servers: dict[str, ObjectStoreServer] = {}
    with contextlib.ExitStack() as stack:

        def get(kind: str) -> ObjectStoreServer:
            if kind not in servers:
                servers[kind] = stack.enter_context(serve(kind))
            return servers[kind]

        yield get


@pytest.fixture(params=STORES)
def any_store(
    request: pytest.FixtureRequest, running: Callable[[str], ObjectStoreServer]
) -> ObjectStoreServer:
    """Each store in turn."""
    return running(request.param)


@pytest.fixture(params=S3_STORES)
def s3(
    request: pytest.FixtureRequest, running: Callable[[str], ObjectStoreServer]
) -> ObjectStoreServer:
    """Each store that speaks S3."""
    return running(request.param)
