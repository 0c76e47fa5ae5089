"""The servers of a job, as the job sees them. Pure."""

from __future__ import annotations

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.meta import Condition
from kubesynth_api.v1alpha1.models import InlineServer, ServerReference
from kubesynth_operator.observation import Job, JobKey, Problem, ServerView
from kubesynth_operator.resources import naming
from kubesynth_operator.servers.catalog import Catalog
from kubesynth_operator.servers.observe import missing_class
from kubesynth_operator.servers.seen import Server


def of_job(catalog: Catalog, job: Job) -> dict[str, ServerView]:
    """Return the server behind each role that has one."""
    if job.spec is None:
        return {}
    found = {}
    for model in job.spec.models:
        if model.server is not None:
            found[model.name] = _own(catalog, job, model.name, model.server)
        elif model.server_ref is not None:
            found[model.name] = _shared(catalog, job, model.server_ref)
    return found


def _own(catalog: Catalog, job: Job, role: str, wanted: InlineServer) -> ServerView:
    key = JobKey(job.key.namespace, naming.server_name(job.key.name, role))
    server = catalog.server(key)
    if server is not None and server.owner_uid == job.uid and not server.deleting:
        return _view(server)
    problem = None
    if catalog.find_class(wanted.class_ref, key.namespace) is None:
        hint = missing_class(wanted.class_ref.kind, wanted.class_ref.name)
        problem = Problem(Reason.REFERENCE_NOT_FOUND, hint)
    return ServerView(key.namespace, key.name, problem=problem, message="It is being made.")


def _shared(catalog: Catalog, job: Job, wanted: ServerReference) -> ServerView:
    key = JobKey(wanted.namespace or job.key.namespace, wanted.name)
    server = catalog.server(key)
    what = f"ModelServer {key.namespace}/{key.name}"
    if server is None:
        problem = Problem(Reason.REFERENCE_NOT_FOUND, f"{what} does not exist")
        return ServerView(
            key.namespace, key.name, problem=problem, reason=problem.reason, message="It is gone."
        )
    if not catalog.may_use(key, job.key.namespace):
        message = f"{what} does not list namespace {job.key.namespace!r} in allowedNamespaces"
        denied = Problem(Reason.REFERENCE_DENIED, message)
        return ServerView(
            key.namespace, key.name, problem=denied, reason=denied.reason, message=message
        )
    return _view(server)


def _view(server: Server) -> ServerView:
    status = server.status
    ready = _find(status.conditions, ConditionType.READY)
    reasons = set(Reason)
    known = ready is not None and ready.reason in reasons
    # The step that it is in began later than the condition's status last changed.
    step = status.startup[-1] if status.startup else None
    since = step.start_time if step and ready and step.reason == ready.reason else None
    return ServerView(
        namespace=server.key.namespace,
        name=server.key.name,
        uid=server.uid,
        endpoint=status.endpoint,
        model=status.served_model,
        triton=status.triton if status.protocol == "Triton" else None,
        ready=ready is not None and ready.status == "True" and not server.deleting,
        reason=Reason(ready.reason) if ready and known else Reason.PROVISIONING,
        message=ready.message if ready else "It is being looked at.",
        since=since,
    )


def _find(conditions: tuple[Condition, ...], kind: ConditionType) -> Condition | None:
    return next((each for each in conditions if each.type == kind), None)
