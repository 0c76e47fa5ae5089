from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from kubesynth_api.crd import crd_manifest
from kubesynth_api.kinds import KINDS
from kubesynth_operator.app import Application
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import Resource
from kubesynth_operator.settings import Limits, OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, running_operator
from kubesynth_testing.server_harness import Servers

_NUMBERS = itertools.count(1)
NAMESPACES = Resource("", "v1", "namespaces")


@pytest.fixture(scope="package")
def api_server() -> Iterator[ApiServer]:
    """Run a Kubernetes control plane without nodes, with our CRD, for all tests of the session."""
    with ApiServer.start(controllers=True) as server:
        for kind in KINDS:
            manifest = json.dumps(crd_manifest(kind))
            server.kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
        server.wait_for_crds()
        yield server


@pytest.fixture
async def client(api_server: ApiServer) -> AsyncIterator[KubeClient]:
    """Connect as a cluster administrator."""
    connected = await KubeClient.connect(str(api_server.kubeconfig))
    yield connected
    await connected.close()


@pytest.fixture
async def namespace_name(client: KubeClient) -> str:
    """Make a namespace of the test's own, in which PodSecurity `restricted` is enforced."""
    name = f"test-{next(_NUMBERS)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }
    await client.create(NAMESPACES, None, manifest)
    return name


@pytest.fixture
async def namespace(client: KubeClient, namespace_name: str) -> Namespace:
    """Make a namespace with the two volume claims that jobs of the tests mount."""
    made = Namespace(client, namespace_name)
    await made.create_claims("corpus", "datasets")
    return made


@pytest.fixture
def settings(namespace_name: str) -> OperatorSettings:
    """Return settings of an operator for the test's namespace alone, quicker than in real life."""
    return OperatorSettings(
        runner_image="kubesynth:test",
        namespaces=(namespace_name,),
        limits=Limits(
            progress_write_seconds=0.5,
            poll_seconds=0.5,
            reference_recheck_seconds=1,
            reference_recheck_max_seconds=1,
            podless_seconds=2,
        ),
    )


@pytest.fixture
async def operator(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings
) -> AsyncIterator[Application]:
    """Run an operator for the test's namespace."""
    async with running_operator(str(api_server.kubeconfig), settings) as app:
        yield app


@pytest.fixture
async def servers(operator: Application, namespace: Namespace) -> Servers:
    """Run an operator, with one class of servers in its namespace."""
    found = Servers(namespace)
    await found.create_class()
    return found
