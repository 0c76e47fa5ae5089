from __future__ import annotations

from collections.abc import Iterator

import pytest

from kubesynth_testing.object_stores import ObjectStoreServer, serve


@pytest.fixture(scope="session", params=["seaweedfs", "azurite"])
def any_store(request: pytest.FixtureRequest) -> Iterator[ObjectStoreServer]:
    """Each store in turn."""
    with serve(request.param) as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectStoreServer]:
    """A store that speaks S3."""
    with serve("seaweedfs") as server:
        yield server
