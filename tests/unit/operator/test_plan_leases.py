"""What follows from dividing limits over pods: how many may run, and when the job has enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.runner_contract import InitialShare, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.actions import Action, CreateJob, CreateTokenSecret, DeleteJob, PatchJob
from kubesynth_operator.observation import LeaseView, Referent
from kubesynth_operator.status import has_ended
from kubesynth_testing.builders import a_child, a_job, a_status, job_object, observation
from kubesynth_testing.decisions import CLAIMS, after, conditions, created, decide, outcome_of
from kubesynth_testing.manifests import edited

PLAN, GENERATE = RunnerPhase.PLAN, RunnerPhase.GENERATE


def test_parallelism_is_patched_and_nothing_else() -> None:
    job = a_job(shards=4)
    child = a_child(job, GENERATE, active=2, parallelism=2)
    seen = observation(job, [child])
    raised = PatchJob("qa-generate", child.uid, "parallelism", 4)
    assert decide(dataclasses.replace(seen, leases=LeaseView(4))).actions == (raised,)


def test_parallelism_is_raised_no_further_than_there_are_shares_for() -> None:
    job = a_job(shards=4)
    seen = observation(job, [a_child(job, GENERATE, active=2, parallelism=2)])
    assert decide(seen).actions == ()  # nothing is known yet
    assert decide(dataclasses.replace(seen, leases=LeaseView(2))).actions == ()
    (patch,) = decide(dataclasses.replace(seen, leases=LeaseView(3))).actions
    assert isinstance(patch, PatchJob)
    assert patch.value == 3


def test_parallelism_is_not_raised_for_pods_that_could_not_mount_the_volumes() -> None:
    once = {name: Referent(exists=True, access_modes=("ReadWriteOnce",)) for name in CLAIMS}
    job = a_job(shards=4)
    at_work = a_child(job, GENERATE, active=1, parallelism=1)
    seen = dataclasses.replace(observation(job, [at_work], referents=once), leases=LeaseView(4))
    result = decide(seen)
    assert result.actions == ()
    assert conditions(result)["Accepted"] == ("True", "Valid")
    assert conditions(result)["Degraded"] == ("True", "AccessModeConflict")
    raised = PatchJob("qa-generate", at_work.uid, "parallelism", 4)
    assert decide(dataclasses.replace(seen, referents=CLAIMS)).actions == (raised,)
    as_before = a_job(raw=edited(job_object(shards=4), {"spec.shards.parallelism": 1}))
    assert "Degraded" not in conditions(decide(dataclasses.replace(seen, job=as_before)))


def test_references_that_are_gone_do_not_park_a_job_whose_shards_run() -> None:
    job = a_job(shards=4)
    seen = observation(job, [a_child(job, GENERATE, active=1, parallelism=1)], referents={})
    assert conditions(decide(seen))["Accepted"] == ("True", "Valid")


def test_spent_budget_stops_the_shards_and_finalizes_what_there_is() -> None:
    job = a_job(shards=2, budget={"tokens": 1000})
    child = a_child(job, GENERATE, active=2)
    seen = dataclasses.replace(
        observation(job, [a_child(job, PLAN, complete=True), child]),
        leases=LeaseView(2, Reason.BUDGET_SPENT),
    )
    result = decide(seen)
    assert result.actions == (PatchJob("qa-generate", child.uid, "suspend", True),)
    assert conditions(result)["Running"] == ("True", "BudgetSpent")
    # A new operator, which knows nothing of the leases, goes on from the status.
    stopped = a_child(job, GENERATE, suspended=True, suspension_seen=True)
    later = after(
        seen, result, leases=None, children={PLAN: seen.children[PLAN], GENERATE: stopped}
    )
    result = decide(later)
    assert created(result.actions) == ["qa-finalize"]
    finalize = next(action for action in result.actions if isinstance(action, CreateJob))
    assert outcome_of(finalize).reason is Reason.BUDGET_SPENT
    env = finalize.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    found = {item["name"]: item.get("value") for item in env}
    assert (found["KUBESYNTH_PARTIAL"], found["KUBESYNTH_OUTCOME"]) == ("true", "BudgetSpent")


def test_the_one_pod_that_does_everything_is_left_to_end_by_itself() -> None:
    """It goes on to write its report when it has enough, and its last words tell why it ended."""
    job = a_job(target={"acceptedRecords": 10})
    seen = observation(job, [a_child(job, GENERATE, active=1, ready=1)])
    result = decide(dataclasses.replace(seen, leases=LeaseView(1, Reason.TARGET_REACHED)))
    assert result.actions == ()
    assert conditions(result)["Running"] == ("True", "ShardsActive")


def test_queued_shards_that_were_stopped_by_deletion_are_reported_all_the_same() -> None:
    job = a_job(shards=4, queue="team-a", target={"acceptedRecords": 100})
    planned = a_child(job, PLAN, complete=True)
    seen = observation(job, [planned, a_child(job, GENERATE, suspended=False, active=4)])
    seen = dataclasses.replace(seen, leases=LeaseView(4, Reason.TARGET_REACHED))
    stopping = decide(seen)
    assert [type(action) for action in stopping.actions] == [DeleteJob]
    # The Job controller counts pods that are being deleted as terminating alone.
    dying = a_child(job, GENERATE, suspended=False, deleting=True, terminating=4)
    seen = after(seen, stopping, children={PLAN: planned, GENERATE: dying})
    waiting = decide(seen)
    assert waiting.actions == ()
    result = decide(after(seen, waiting, children={PLAN: planned}))
    assert created(result.actions) == ["qa-finalize"]
    assert conditions(result)["Complete"] == ("False", "NotComplete")


def test_queued_shards_whose_target_is_out_of_reach_are_not_made_again() -> None:
    """Once their pods are going, nobody can tell any more from the leases why they were stopped."""
    job = a_job(shards=4, queue="team-a", target={"acceptedRecords": 100})
    planned = a_child(job, PLAN, complete=True)
    seen = observation(job, [planned, a_child(job, GENERATE, suspended=False, active=1)])
    stopping = decide(dataclasses.replace(seen, leases=LeaseView(4, Reason.TARGET_MISSED)))
    assert [type(action) for action in stopping.actions] == [DeleteJob]
    assert conditions(stopping)["Running"] == ("True", "TargetMissed")
    result = decide(after(seen, stopping, leases=LeaseView(4), children={PLAN: planned}))
    finalize = next(action for action in result.actions if isinstance(action, CreateJob))
    assert outcome_of(finalize).reason is Reason.TARGET_MISSED


@pytest.mark.parametrize("suspend", [True, False])
def test_queued_shards_are_reported_also_if_their_user_suspends_them_meanwhile(
    *, suspend: bool
) -> None:
    enough = LeaseView(4, Reason.TARGET_REACHED)
    before = a_status(
        (ConditionType.RUNNING, False, Reason.SUSPENDED_BY_USER),
        (ConditionType.SUSPENDED, True, Reason.SUSPENDED_BY_USER),
    )
    fields: dict[str, Any] = {"queue": "team-a", "target": {"acceptedRecords": 100}}
    job = a_job(shards=4, suspend=suspend, status=before, **fields)
    seen = observation(job, [a_child(job, PLAN, complete=True)], referents=CLAIMS)
    result = decide(dataclasses.replace(seen, leases=enough))
    assert created(result.actions) == ([] if suspend else ["qa-finalize"])
    stored = result.status or job.status
    assert not has_ended(stored)


def test_shards_that_wait_in_a_queue_are_taken_out_of_it_before_finalize() -> None:
    """The queue might start them at any moment, beside the pod that sums them up."""
    job = a_job(shards=4, queue="team-a", target={"acceptedRecords": 100})
    planned, waits = a_child(job, PLAN, complete=True), a_child(job, GENERATE, suspended=True)
    seen = observation(job, [planned, waits])
    seen = dataclasses.replace(seen, leases=LeaseView(4, Reason.TARGET_REACHED))
    assert decide(seen).actions == (DeleteJob("qa-generate", waits.uid),)


def test_shards_that_are_made_again_begin_with_what_they_began_with_at_first() -> None:
    """Some hold what they were leased since: divided anew, there would be more than the whole."""
    raw = edited(job_object(shards=4, budget={"tokens": 1000}), {"spec.shards.parallelism": 1})
    job = a_job(raw=raw, queue="team-a")
    seen = observation(job, [a_child(job, PLAN, complete=True)], referents=CLAIMS)
    first = decide(seen).actions
    secret = next(each for each in first if isinstance(each, CreateTokenSecret))
    raw = edited(raw, {"spec.shards.parallelism": 4, "spec.budget.tokens": 2000})
    again = dataclasses.replace(
        seen,
        job=a_job(raw=raw, queue="team-a"),
        has_lease_secret=True,
        first_share=wire.parse_first_share(secret.manifest),
    )
    shares = [_share_of(made) for made in (first, decide(again).actions)]
    assert [(each.parallelism, each.caps.tokens) for each in shares] == [(1, 1000)] * 2
    # Rates are of the pods, and no pod of before is left.
    assert [each.models["generator"].concurrency for each in shares] == [2, 1]


def _share_of(actions: Sequence[Action]) -> InitialShare:
    made = next(each for each in actions if isinstance(each, CreateJob))
    child = wire.parse_child_job(
        {**made.manifest, "metadata": {**made.manifest["metadata"], "uid": "u"}}
    )
    assert child is not None
    assert child.first_share is not None
    return child.first_share
