"""The kinds that the operator touches, and where the API server keeps them."""

from __future__ import annotations

import dataclasses
from urllib.parse import quote

from kubesynth_api.labels import GROUP, VERSION
from kubesynth_api.v1alpha1 import model_servers, server_classes
from kubesynth_api.v1alpha1.synthetic_data_job import PLURAL


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """One kind. `group` is empty for the core API."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, or of one object."""
        parts = ["api" if not self.group else f"apis/{self.group}", self.version]
        if namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(parts)


SYNTHETIC_DATA_JOBS = Resource(GROUP, VERSION, PLURAL)
MODEL_SERVERS = Resource(GROUP, VERSION, model_servers.PLURAL)
SERVER_CLASSES = Resource(GROUP, VERSION, server_classes.PLURAL)
CLUSTER_SERVER_CLASSES = Resource(GROUP, VERSION, server_classes.CLUSTER_PLURAL)
DEPLOYMENTS = Resource("apps", "v1", "deployments")
LEADER_WORKER_SETS = Resource("leaderworkerset.x-k8s.io", "v1", "leaderworkersets")
SERVICES = Resource("", "v1", "services")
JOBS = Resource("batch", "v1", "jobs")
PODS = Resource("", "v1", "pods")
CONFIG_MAPS = Resource("", "v1", "configmaps")
SECRETS = Resource("", "v1", "secrets")
CLAIMS = Resource("", "v1", "persistentvolumeclaims")
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies")
EVENTS = Resource("events.k8s.io", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
