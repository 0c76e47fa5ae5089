"""Asking for a decision and reading it: what tests of `kubesynth_operator.plan` share."""

from __future__ import annotations

import dataclasses
from typing import Any

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobStatus
from kubesynth_operator import plan, wire
from kubesynth_operator.actions import Action, CreateJob, Plan
from kubesynth_operator.observation import Observation, Outcome, ReferenceKind, Referent
from kubesynth_testing.builders import SETTINGS

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE
FINALIZE, REPORT = RunnerPhase.FINALIZE, RunnerPhase.REPORT
ALL_GOOD = Outcome(ConditionType.COMPLETE, Reason.ALL_SHARDS_SUCCEEDED, "All 3 shards succeeded.")
CLAIMS = {
    (ReferenceKind.CLAIM, name): Referent(exists=True, access_modes=("ReadWriteMany",))
    for name in ("corpus", "datasets")
}

# Reasons that only a ModelServer has.
OF_SERVERS = frozenset(
    {Reason.IDLE, Reason.NO_ROOM_FOR_SURGE, Reason.MODEL_UNHEALTHY, Reason.KIND_NOT_INSTALLED}
)
# Reasons that no condition has: `test_plan_remarks` has their tests.
OF_EVENTS = frozenset({Reason.FILES_LEFT_OUT, Reason.RECORDS_FAILED})


def decide(seen: Observation) -> Plan:
    """Return the plan under the settings of the tests."""
    return plan.reconcile(seen, SETTINGS)


def conditions(result: Plan | SyntheticDataJobStatus | None) -> dict[str, tuple[str, str]]:
    """Return status and reason by type of condition, as the plan would store them."""
    found = result.status if isinstance(result, Plan) else result
    assert found is not None, "the status was left as it is"
    return {item.type: (item.status, item.reason) for item in found.conditions}


def created(actions: tuple[Action, ...]) -> list[str]:
    """Return the names of the Jobs that are created, in order."""
    return [
        action.manifest["metadata"]["name"] for action in actions if isinstance(action, CreateJob)
    ]


def after(seen: Observation, result: Plan, **changes: Any) -> Observation:
    """Return the observation once the plan's status is stored."""
    assert result.status is not None
    job = dataclasses.replace(seen.job, status=result.status)
    return dataclasses.replace(seen, job=job, **changes)


def outcome_of(action: CreateJob) -> Outcome:
    """Return the outcome that a finalize Job carries, read back from its manifest."""
    raw = {**action.manifest, "metadata": {**action.manifest["metadata"], "uid": "u"}}
    child = wire.parse_child_job(raw)
    assert child is not None
    assert child.outcome is not None
    return child.outcome
