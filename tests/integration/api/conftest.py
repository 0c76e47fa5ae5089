from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kubesynth_api.crd import crd_manifest
from kubesynth_api.kinds import KINDS
from kubesynth_testing.api_requests import ApiRequests
from kubesynth_testing.apiserver import ApiServer


@pytest.fixture(scope="package")
def api_server() -> Iterator[ApiServer]:
    """Run an API server that has our CRDs."""
    with ApiServer.start() as server:
        for kind in KINDS:
            manifest = json.dumps(crd_manifest(kind))
            server.kubectl("create", "-f", "-", stdin=manifest)
        server.wait_for_crds()
        yield server


@pytest.fixture(scope="package")
def requests(api_server: ApiServer) -> Iterator[ApiRequests]:
    """Connect to it as its administrator."""
    connection = ApiRequests(api_server)
    yield connection
    connection.close()
