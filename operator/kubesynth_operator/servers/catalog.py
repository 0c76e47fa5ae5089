"""Servers, classes, and which jobs need which server now, as the watches last saw them.

Who needs a server is never stored: it is read off the jobs each time, so that a job that vanishes
takes its claim with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Set
from typing import Any

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.labels import MANAGED_BY, QUEUE_NAME_LABEL
from kubesynth_api.v1alpha1.model_servers import ClassReference
from kubesynth_api.v1alpha1.pipeline import SOURCE_KINDS
from kubesynth_api.v1alpha1.server_classes import CLUSTER_KIND, KIND
from kubesynth_operator.observation import JobKey
from kubesynth_operator.servers import wire
from kubesynth_operator.servers.seen import Server, ServerClass

Object = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class JobUse:
    """The servers that a job names, and whether it needs them now."""

    servers: frozenset[JobKey]
    active: bool


def use_of(raw: Object) -> JobUse:
    """Read off a job what it uses. Defensively: the spec may be one that is refused."""
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    namespace, name = metadata["namespace"], metadata["name"]
    servers: set[JobKey] = set()
    for model in spec.get("models") or ():
        if model.get("server"):
            servers.add(JobKey(namespace, f"{name}-{model.get('name')}"))
        reference = model.get("serverRef")
        if reference:
            found = JobKey(str(reference.get("namespace") or namespace), str(reference.get("name")))
            servers.add(found)
    return JobUse(frozenset(servers), bool(servers) and _is_active(raw))


def _is_active(raw: Object) -> bool:
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    if "deletionTimestamp" in metadata or spec.get("managedBy", MANAGED_BY) != MANAGED_BY:
        return False
    if "True" in (conditions.get(ConditionType.COMPLETE), conditions.get(ConditionType.FAILED)):
        return False
    at_work = bool((status.get("shards") or {}).get("active"))
    if spec.get("suspend"):
        # Pods that are told to stop finish what they have under way.
        return at_work
    # Pods go on where the job is refused meanwhile, for a Secret that is gone, say.
    if at_work or _plan_asks_models(spec, status):
        return True
    if QUEUE_NAME_LABEL in (metadata.get("labels") or {}):
        # GPUs are not held for a job that waits in its queue; but its plan does not wait there.
        return conditions.get(ConditionType.QUOTA_RESERVED) == "True"
    return conditions.get(ConditionType.ACCEPTED) == "True"


def _plan_asks_models(spec: Object, status: Object) -> bool:
    """Tell whether plan is at work and has to make the records that the job starts from."""
    planning = any(
        each["type"] == ConditionType.RUNNING
        and each["status"] == "True"
        and each.get("reason") == Reason.PLANNING
        for each in status.get("conditions") or ()
    )
    first = next(iter(spec.get("pipeline") or ()), None) or {}
    return planning and any(kind in first for kind in SOURCE_KINDS)


class Catalog:
    """What there is. `wake_server` and `wake_job` are told whose surroundings have changed."""

    def __init__(
        self, wake_server: Callable[[JobKey], None], wake_job: Callable[[JobKey], None]
    ) -> None:
        self._wake_server = wake_server
        self._wake_job = wake_job
        self._servers: dict[JobKey, Server] = {}
        self._classes: dict[tuple[str, str, str], ServerClass] = {}
        self._uses: dict[JobKey, JobUse] = {}

    def server(self, key: JobKey) -> Server | None:
        """Return a server, or None if there is none of that name."""
        return self._servers.get(key)

    def server_keys(self) -> tuple[JobKey, ...]:
        """Return all servers."""
        return tuple(self._servers)

    def users_of(self, server: JobKey) -> tuple[str, ...]:
        """Return the jobs that need a server now and may use it, as NAMESPACE/NAME."""
        return tuple(
            sorted(
                f"{job.namespace}/{job.name}"
                for job, use in self._uses.items()
                if use.active and server in use.servers and self.may_use(server, job.namespace)
            )
        )

    def may_use(self, key: JobKey, namespace: str) -> bool:
        """Tell whether jobs of a namespace may use a server."""
        if key.namespace == namespace:
            return True
        server = self._servers.get(key)
        allowed = server.spec.allowed_namespaces if server and server.spec else ()
        return namespace in allowed or "*" in allowed

    def find_class(self, reference: ClassReference, namespace: str) -> ServerClass | None:
        """Return the class that is meant: the namespace's own before the cluster's."""
        own = self._classes.get((KIND, namespace, reference.name))
        shared = self._classes.get((CLUSTER_KIND, "", reference.name))
        if reference.kind == KIND:
            return own
        return shared if reference.kind == CLUSTER_KIND else own or shared

    def job_seen(self, raw: Object) -> None:
        """Take note of what a job uses."""
        key = JobKey(raw["metadata"]["namespace"], raw["metadata"]["name"])
        use = use_of(raw)
        self._replace_use(key, use if use.servers else None)

    def job_gone(self, key: JobKey) -> None:
        """Forget a job. Safe for one that was never seen."""
        self._replace_use(key, None)

    def jobs_in(self, namespace: str) -> set[JobKey]:
        """Return the jobs of a namespace that use servers."""
        return {key for key in self._uses if key.namespace == namespace}

    def jobs_are(self, keys: set[JobKey]) -> None:
        """Forget every job that is not among these."""
        for key in [key for key in self._uses if key not in keys]:
            self.job_gone(key)

    def _replace_use(self, key: JobKey, use: JobUse | None) -> None:
        before = self._uses.pop(key, None)
        if use is not None:
            self._uses[key] = use
        if before != use:
            concerned = (before.servers if before else frozenset()) | (
                use.servers if use else frozenset()
            )
            for server in concerned:
                self._wake_server(server)

    def put_server(self, server: Server) -> None:
        """Take a new or changed server."""
        before = self._servers.get(server.key)
        self._servers[server.key] = server
        if before != server:
            self._server_changed(server.key)

    def drop_server(self, key: JobKey) -> None:
        """Forget a server."""
        if self._servers.pop(key, None) is not None:
            self._server_changed(key)

    def _server_changed(self, key: JobKey) -> None:
        self._wake_server(key)
        for job, use in self._uses.items():
            if key in use.servers:
                self._wake_job(job)

    def put_class(self, found: ServerClass) -> None:
        """Take a new or changed class."""
        key = (found.kind, found.namespace, found.name)
        before = self._classes.get(key)
        self._classes[key] = found
        if before != found:
            self._class_changed(found.name)

    def drop_class(self, key: tuple[str, str, str]) -> None:
        """Forget a class."""
        if self._classes.pop(key, None) is not None:
            self._class_changed(key[2])

    def class_keys(self) -> tuple[tuple[str, str, str], ...]:
        """Return all classes as kind, namespace and name."""
        return tuple(self._classes)

    def _class_changed(self, name: str) -> None:
        for key, server in self._servers.items():
            if server.spec is not None and server.spec.class_ref.name == name:
                self._wake_server(key)
        # Jobs whose own server waits for its class.
        for job, use in self._uses.items():
            if use.servers - self._servers.keys():
                self._wake_job(job)


class ServerSink:
    """Feeds a watch of ModelServers into the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def keep(self, namespace: str | None, names: Set[tuple[str, str]]) -> None:
        """Forget all servers in a namespace (None: in the cluster) but these."""
        for key in self._catalog.server_keys():
            if key not in names and namespace in (None, key.namespace):
                self._catalog.drop_server(key)

    def upsert(self, raw: dict[str, Any]) -> None:
        """Take a new or changed server."""
        self._catalog.put_server(wire.parse_server(raw))

    def delete(self, raw: dict[str, Any]) -> None:
        """Forget a server."""
        metadata = raw["metadata"]
        self._catalog.drop_server(JobKey(metadata["namespace"], metadata["name"]))


class ClassSink:
    """Feeds a watch of one kind of class into the catalog."""

    def __init__(self, catalog: Catalog, kind: str) -> None:
        self._catalog = catalog
        self._kind = kind

    def keep(self, namespace: str | None, names: Set[tuple[str, str]]) -> None:
        """Forget all classes in a namespace (None: in the cluster) but these."""
        for key in self._catalog.class_keys():
            if key[0] == self._kind and key[1:] not in names and namespace in (None, key[1]):
                self._catalog.drop_class(key)

    def upsert(self, raw: dict[str, Any]) -> None:
        """Take a new or changed class."""
        self._catalog.put_class(wire.parse_class(raw))

    def delete(self, raw: dict[str, Any]) -> None:
        """Forget a class."""
        self._catalog.drop_class(self._key(raw))

    def _key(self, raw: Object) -> tuple[str, str, str]:
        metadata = raw["metadata"]
        return self._kind, str(metadata.get("namespace") or ""), metadata["name"]
