"""The model servers of a job: whether it may use them, where they are, what keeps it waiting.

Pods start without waiting for servers: a runner asks until its model answers. What has to be known
beforehand is the address, and a server tells that as soon as it was accepted, asleep or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.models import ExternalModel, ModelSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator.observation import Outcome, Problem, ServerView, failure

Views = Mapping[str, ServerView]


def uses_servers(spec: SyntheticDataJobSpec) -> bool:
    """Tell whether any role has a model server behind it."""
    return any(_has_server(model) for model in spec.models)


def problem_with(spec: SyntheticDataJobSpec, views: Views) -> Problem | None:
    """Return why a server of the job is not there or may not be used, naming the field."""
    for index, model in enumerate(spec.models):
        view = views.get(model.name)
        if not _has_server(model) or view is None or view.problem is None:
            continue
        field = "serverRef" if model.server_ref is not None else "server.classRef"
        message = f"spec.models[{index}].{field}: {view.problem.message}"
        return Problem(view.problem.reason, message)
    return None


def missing(spec: SyntheticDataJobSpec, views: Views) -> tuple[ModelSpec, ...]:
    """Return the roles whose own server has not been made yet."""
    return tuple(
        model
        for model in spec.models
        if model.server is not None and not (model.name in views and views[model.name].exists)
    )


def resolved(spec: SyntheticDataJobSpec, views: Views) -> SyntheticDataJobSpec | None:
    """Return the spec with an endpoint in the place of each server; None while one is unknown."""
    models = []
    for model in spec.models:
        if not _has_server(model):
            models.append(model)
            continue
        view = views.get(model.name)
        if view is None or not view.endpoint:
            return None
        external = ExternalModel(
            url=view.endpoint,
            model=view.model,
            protocol="OpenAI" if view.triton is None else "Triton",
            triton=view.triton,
        )
        changes = {"external": external, "server": None, "server_ref": None}
        models.append(model.model_copy(update=changes))
    return spec.model_copy(update={"models": tuple(models)})


def readiness(spec: SyntheticDataJobSpec, views: Views) -> tuple[bool, Reason, str]:
    """Return status, reason and message of the condition ModelsReady."""
    if not uses_servers(spec):
        return True, Reason.NOT_REQUIRED, "Every model is external or embedded: nothing to deploy."
    waiting = list(_waiting(spec, views))
    if not waiting:
        return True, Reason.ALL_READY, "Every model server answers."
    # The first one that needs somebody, or else the first one.
    role, view = next(((r, v) for r, v in waiting if v.reason not in _ON_THEIR_WAY), waiting[0])
    reason = Reason.PROVISIONING if view.reason is Reason.IDLE else view.reason
    since = f" (since {view.since})" if view.since else ""
    message = f"{role}: ModelServer {view.namespace}/{view.name}: {view.message}{since}"
    return False, reason, message


_ON_THEIR_WAY = frozenset({Reason.PROVISIONING, Reason.DOWNLOADING, Reason.LOADING, Reason.IDLE})


def failed(spec: SyntheticDataJobSpec, views: Views) -> Outcome | None:
    """Return how the job ends because a server did not start in time."""
    for role, view in _waiting(spec, views):
        if view.reason is Reason.STARTUP_TIMEOUT:
            message = f"{role}: ModelServer {view.namespace}/{view.name}: {view.message}"
            return failure(Reason.MODEL_STARTUP_FAILED, message)
    return None


def _waiting(spec: SyntheticDataJobSpec, views: Views) -> Iterator[tuple[str, ServerView]]:
    for model in spec.models:
        if not _has_server(model):
            continue
        view = views.get(model.name) or ServerView("", "", message="It is being made.")
        if not view.ready:
            yield model.name, view


def _has_server(model: ModelSpec) -> bool:
    return model.server is not None or model.server_ref is not None
