"""The decision about one model server: one look, one plan. Pure.

A server that is being deleted is left alone: what it owns goes by garbage collection. One that
cannot be accepted keeps the pods that are needed and gets no new ones. All others get the children
that they should have now, and a status that says where they stand.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.meta import Condition
from kubesynth_api.v1alpha1.model_servers import (
    STEPS_SHOWN,
    USERS_SHOWN,
    GroupFailure,
    ModelServerSpec,
    ModelServerStatus,
    ServerUsers,
    StartupStep,
)
from kubesynth_api.v1alpha1.protocols import TritonOptions
from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_operator import status as statuses
from kubesynth_operator import wire
from kubesynth_operator.actions import (
    ApplyService,
    ApplyWorkload,
    CreateClaim,
    PatchWorkload,
    ServerAction,
)
from kubesynth_operator.observation import Problem
from kubesynth_operator.servers import acceptance, demand, manifests, rollout, startup, telling
from kubesynth_operator.servers.seen import IDLE, ServerObservation, ServerPlan, Workload
from kubesynth_operator.status import Verdict

# Secrets cannot be watched, and what stands in the way of a child may go away.
_RECHECK_SECONDS = 30.0
_PHASES = {
    Reason.ALL_READY: "Ready",
    Reason.IDLE: "Idle",
    Reason.UNSCHEDULABLE: "Pending",
    Reason.PROVISIONING: "Pending",
    Reason.DOWNLOADING: "Starting",
    Reason.LOADING: "Loading",
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Wanted:
    """What a server that is accepted should be now."""

    spec: ModelServerSpec
    template: ServerClassSpec
    demand: demand.Demand
    last_used: str | None
    strategy: str
    secret_version: str
    inputs: str


def reconcile(seen: ServerObservation) -> ServerPlan:
    """Decide what to do about one server, and what to say about it."""
    if seen.server.deleting:
        return IDLE
    problem = acceptance.problem_with(seen)
    if problem is not None:
        return _park(seen, problem)
    wanted = _wanted(seen)
    actions = () if seen.obstacles else _actions(seen, wanted)
    after, requeue = _status(seen, wanted)
    waits = [each for each in (requeue, wanted.demand.idle_in_seconds) if each is not None]
    if wanted.spec.rollout.restart_on_secret_change or seen.obstacles:
        waits.append(_RECHECK_SECONDS)
    if seen.workload is not None and seen.workload.rolling and wanted.demand.replicas:
        waits.append(rollout.PATIENCE.total_seconds() / 4)
    return _plan(seen, after, actions, min(waits, default=None))


def _park(seen: ServerObservation, problem: Problem) -> ServerPlan:
    """Refuse the server for now; pods that are needed are left to run."""
    verdict = Verdict(False, problem.reason, problem.message)
    actions, counters, idle_in_seconds = _wind_down(seen)
    after = _with_conditions(
        seen,
        seen.server.status,
        {
            ConditionType.ACCEPTED: verdict,
            ConditionType.READY: verdict,
            ConditionType.STALLED: dataclasses.replace(verdict, status=True),
        },
    ).model_copy(update={"phase": "Rejected", "endpoint": "", "served_model": "", **counters})
    # An invalid spec changes with the spec or the class, which are watched.
    again = _RECHECK_SECONDS if "spec.token" in problem.message else None
    waits = [each for each in (again, idle_in_seconds) if each is not None]
    return _plan(seen, after, actions, min(waits, default=None))


def _wind_down(
    seen: ServerObservation,
) -> tuple[tuple[ServerAction, ...], dict[str, object], float | None]:
    """Return what takes pods from a server that is refused, as far as there should be fewer.

    With it what the status says of them, and after how many seconds that may change. Nothing that
    is needed stops because a class or a Secret went away, and nothing keeps its GPUs for that.
    """
    current = seen.workload
    users = ServerUsers(count=len(seen.users), names=seen.users[:USERS_SHOWN])
    ready = _ready_count(seen)
    counters: dict[str, object] = {"users": users, "ready_replicas": ready}
    if seen.server.spec is None or current is None or current.deleting:
        return (), counters, None
    wanted, last_used = _demand(seen, seen.server.spec)
    replicas = min(wanted.replicas, current.wanted)
    counters |= {
        "last_used_time": last_used,
        "replicas": replicas,
        "summary": f"{ready}/{replicas}",
    }
    actions: tuple[ServerAction, ...] = ()
    if replicas < current.wanted:
        version = (current.uid, current.resource_version)
        actions = (PatchWorkload(current.kind, current.name, *version, {"replicas": replicas}),)
    return actions, counters, wanted.idle_in_seconds


def _ready_count(seen: ServerObservation) -> int:
    """Return how many replicas serve."""
    return sum(pod.ready and pod.leads and not pod.deleting for pod in seen.pods)


def _demand(seen: ServerObservation, spec: ModelServerSpec) -> tuple[demand.Demand, str | None]:
    """Return how many pods there should be, and when the last job let go."""
    running = seen.workload.wanted if seen.workload else 0
    last_used = demand.last_used_time(
        seen.server.status,
        users=len(seen.users),
        idles=spec.idle is not None and running > 0,
        now=seen.now,
    )
    wanted = demand.wanted(
        spec,
        users=len(seen.users),
        running=running,
        last_used=wire.parse_time(last_used),
        now=seen.now,
    )
    return wanted, last_used


def _wanted(seen: ServerObservation) -> _Wanted:
    spec, chosen = seen.server.spec, seen.server_class
    if spec is None or chosen is None or chosen.spec is None:
        raise ValueError("the server was not accepted")
    current = seen.workload
    wanted, last_used = _demand(seen, spec)
    version = ""
    if spec.rollout.restart_on_secret_change and seen.secret is not None:
        version = seen.secret.version
    return _Wanted(
        spec=spec,
        template=chosen.spec,
        demand=wanted,
        last_used=last_used,
        strategy=rollout.strategy(spec, current, seen.pods, seen.now),
        secret_version=version,
        inputs=manifests.inputs(spec, chosen.spec, version),
    )


def _actions(seen: ServerObservation, wanted: _Wanted) -> tuple[ServerAction, ...]:
    server, current = seen.server, seen.workload
    actions: list[ServerAction] = []
    if seen.service is None or seen.service.ports != manifests.ports(wanted.template):
        actions.append(ApplyService(manifests.service(server, wanted.template)))
    if current is not None and current.deleting:
        return tuple(actions)
    if current is None or current.inputs != wanted.inputs:
        claim = manifests.claim(server)
        if claim is not None:
            actions.append(CreateClaim(claim))
        manifest = manifests.workload(
            server,
            wanted.template,
            replicas=wanted.demand.replicas,
            strategy=wanted.strategy,
            secret_version=wanted.secret_version,
        )
        return (*actions, *_before_applying(current, wanted), ApplyWorkload(manifest))
    changes: dict[str, object] = {}
    if current.wanted != wanted.demand.replicas:
        changes["replicas"] = wanted.demand.replicas
    if current.strategy != wanted.strategy:
        grouped = wanted.spec.nodes > 1
        changes |= (rollout.of_groups if grouped else rollout.patch)(wanted.strategy)
    if changes:
        version = (current.uid, current.resource_version)
        actions.append(PatchWorkload(current.kind, current.name, *version, changes))
    return tuple(actions)


def _before_applying(current: Workload | None, wanted: _Wanted) -> tuple[ServerAction, ...]:
    """Return what takes a surge's parameters away, which no application could.

    Once they have been patched in (`rollout.patch`) they belong to that patch, and a Deployment
    that has them is refused with the type Recreate.
    """
    if current is None or current.kind != "Deployment" or wanted.strategy != rollout.RECREATE:
        return ()
    if current.strategy == rollout.RECREATE:
        return ()
    version = (current.uid, current.resource_version)
    changes = rollout.patch(rollout.RECREATE)
    return (PatchWorkload(current.kind, current.name, *version, changes),)


def _status(seen: ServerObservation, wanted: _Wanted) -> tuple[ModelServerStatus, float | None]:
    """Return the status, and after how many seconds the clock alone may change it."""
    before, server = seen.server.status, seen.server
    ready_count = _ready_count(seen)
    ready, start_time, failure, requeue = _ready(seen, wanted, ready_count)
    verdicts: dict[ConditionType, Verdict] = {
        ConditionType.ACCEPTED: Verdict(True, Reason.VALID, "The spec is valid."),
        ConditionType.READY: ready,
        **_trouble(seen, wanted, ready),
    }
    if not ready.status and ready.reason is not Reason.IDLE:
        if ready.reason is Reason.STARTUP_TIMEOUT:
            verdicts[ConditionType.STALLED] = dataclasses.replace(ready, status=True)
        else:
            verdicts[ConditionType.RECONCILING] = Verdict(True, Reason.IN_PROGRESS, ready.message)
    after = _with_conditions(seen, before, verdicts).model_copy(
        update={
            "phase": _PHASES.get(ready.reason, "Failing"),
            "summary": f"{ready_count}/{wanted.demand.replicas}",
            "replicas": wanted.demand.replicas,
            "ready_replicas": ready_count,
            "selector": ",".join(f"{k}={v}" for k, v in manifests.selector(server).items()),
            "endpoint": manifests.endpoint(server, wanted.template),
            "served_model": manifests.served_model(server, wanted.template),
            "protocol": wanted.template.protocol,
            "triton": _triton(wanted),
            "used_class": seen.server_class.label if seen.server_class else "",
            "users": ServerUsers(count=len(seen.users), names=seen.users[:USERS_SHOWN]),
            "last_used_time": wanted.last_used,
            "start_time": start_time,
            "startup": _steps(seen, ready, start_time),
            "last_failure": failure,
        }
    )
    return after, requeue


def _triton(wanted: _Wanted) -> TritonOptions | None:
    """Return how jobs ask the model; None for OpenAI's protocol."""
    if wanted.template.protocol != "Triton":
        return None
    return wanted.spec.triton or wanted.template.triton or TritonOptions()


class _Standing(NamedTuple):
    """The verdict on Ready; the start under way and its failures; and when to look again."""

    ready: Verdict
    start_time: str | None = None
    failure: GroupFailure | None = None
    requeue: float | None = None


def _ready(seen: ServerObservation, wanted: _Wanted, ready_count: int) -> _Standing:
    replicas = wanted.demand.replicas
    if replicas == 0:
        why = "spec.replicas is 0." if wanted.spec.replicas == 0 else "No job needs it."
        return _Standing(Verdict(False, Reason.IDLE, why))
    if ready_count:
        return _Standing(Verdict(True, Reason.ALL_READY, _serving(ready_count, replicas)))
    current, before = seen.workload, seen.server.status
    changed = current is None or current.inputs != wanted.inputs
    started_at = None if changed else wire.parse_time(before.start_time)
    start_time = wire.format_time(started_at or seen.now)
    if seen.obstacles:
        return _Standing(Verdict(False, Reason.PROVISIONING, seen.obstacles[0].message), start_time)
    nodes, began_at = wanted.spec.nodes, started_at or seen.now
    failure = None
    if nodes > 1:
        known = before.last_failure if started_at is not None else None
        failure = startup.failure(known, seen.pods, started_at=began_at)
    step = startup.step(current, seen.pods, nodes, failure)
    timeout = wanted.spec.startup_timeout_seconds or wanted.template.startup_timeout_seconds
    start = startup.Start(began_at, timeout, nodes, failure)
    clock = startup.clock(seen.pods, start, seen.now)
    if not clock.timed_out:
        verdict = Verdict(False, step.reason, step.message)
        return _Standing(verdict, start_time, failure, clock.due_in_seconds)
    message = f"Not ready within {timeout} s. {step.reason}: {step.message}"
    return _Standing(Verdict(False, Reason.STARTUP_TIMEOUT, message), start_time, failure)


def _serving(ready: int, replicas: int) -> str:
    return "All pods serve." if ready >= replicas else "At least one pod serves."


def _trouble(
    seen: ServerObservation, wanted: _Wanted, ready: Verdict
) -> dict[ConditionType, Verdict]:
    """Return Degraded for what goes on, but not as it should."""
    current = seen.workload
    if seen.obstacles:
        obstacle = seen.obstacles[0]
        return {ConditionType.DEGRADED: Verdict(True, Reason.CHILD_CONFLICT, obstacle.message)}
    fallen_back = wanted.strategy == rollout.RECREATE and wanted.spec.rollout.strategy == "Auto"
    if current is not None and current.rolling and fallen_back:
        message = (
            "No node has room for a new pod beside the old ones, so the old ones are stopped "
            "first; jobs wait until the new ones serve."
        )
        return {ConditionType.DEGRADED: Verdict(True, Reason.NO_ROOM_FOR_SURGE, message)}
    if ready.status and current is not None and current.trouble:
        return {ConditionType.DEGRADED: Verdict(True, Reason.MODEL_UNHEALTHY, current.trouble)}
    return {}


def _steps(
    seen: ServerObservation, ready: Verdict, start_time: str | None
) -> tuple[StartupStep, ...]:
    """Return the steps of the latest start, with the present one."""
    before = seen.server.status
    if ready.reason is Reason.IDLE:
        return before.startup
    steps = before.startup if ready.status or before.start_time == start_time else ()
    if steps and steps[-1].reason == ready.reason:
        return steps
    step = StartupStep(reason=ready.reason.value, start_time=wire.format_time(seen.now))
    # The first says when it all began; of a loop the last few say enough.
    return (*steps[:1], *steps[1:][-(STEPS_SHOWN - 2) :], step)


def _with_conditions(
    seen: ServerObservation,
    before: ModelServerStatus,
    verdicts: dict[ConditionType, Verdict],
) -> ModelServerStatus:
    generation = seen.server.generation
    conditions: tuple[Condition, ...] = statuses.merge(
        before.conditions, verdicts, generation=generation, now=seen.now
    )
    return before.model_copy(update={"observed_generation": generation, "conditions": conditions})


def _plan(
    seen: ServerObservation,
    after: ModelServerStatus,
    actions: tuple[ServerAction, ...],
    requeue: float | None,
) -> ServerPlan:
    before = seen.server.status
    if after == before:
        return ServerPlan(actions, requeue_after_seconds=requeue)
    return ServerPlan(actions, after, telling.transitions(before, after, seen.now), requeue)
