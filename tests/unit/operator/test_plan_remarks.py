"""What status and Events say of what a job's pods tell: waits, failed records, files left out."""

from __future__ import annotations

import dataclasses

import pytest

from kubesynth_api.conditions import ConditionType
from kubesynth_api.runner_contract import Failures, RecordCounts, RunnerPhase, Totals
from kubesynth_operator import status
from kubesynth_operator.actions import Plan
from kubesynth_operator.observation import LiveProgress, Observation
from kubesynth_testing.builders import NOW, a_child, a_job, a_pod, observation
from kubesynth_testing.decisions import ALL_GOOD, CLAIMS, after, decide
from kubesynth_testing.operator_harness import plan_message, run_message

PLAN, GENERATE, FINALIZE = RunnerPhase.PLAN, RunnerPhase.GENERATE, RunnerPhase.FINALIZE
REFUSED = "waiting for generator: cannot connect"
BAD = Failures(kind="BadInput", count=2, message="no text")
REFUSAL = Failures(kind="Refusal", count=1, message="I cannot.")


def speaking(phase: RunnerPhase, message: str, **more: object) -> LiveProgress:
    live = LiveProgress(Totals(), 0.0, 0, 0, NOW, message=message, speaker=phase)
    return dataclasses.replace(live, **more)  # type: ignore[arg-type]


def at_work(phase: RunnerPhase) -> Observation:
    job = a_job(shards=3)
    before = {PLAN: [], GENERATE: [PLAN], FINALIZE: [PLAN, GENERATE]}[phase]
    children = [a_child(job, done, complete=True) for done in before]
    return observation(job, [*children, a_child(job, phase, active=1, ready=1)], referents=CLAIMS)


def message(result: Plan, kind: ConditionType) -> str:
    assert result.status is not None
    found = status.find(result.status, kind)
    assert found is not None
    return found.message


def told(result: Plan) -> list[tuple[str, str, str]]:
    return [(event.type, event.reason, event.message) for event in result.events]


@pytest.mark.parametrize(
    ("phase", "who"), [(PLAN, "It says"), (GENERATE, "They say"), (FINALIZE, "It says")]
)
def test_what_pods_of_any_phase_wait_for_is_in_the_condition_at_once(
    phase: RunnerPhase, who: str
) -> None:
    seen = at_work(phase)
    first = decide(seen)
    waits = decide(after(seen, first, live=speaking(phase, REFUSED)))
    assert message(waits, ConditionType.RUNNING).endswith(f". {who}: {REFUSED}")
    assert message(waits, ConditionType.READY) == message(waits, ConditionType.RUNNING)
    assert not waits.progress_only, "people look for it now"
    assert waits.events == (), "and are not told each time"
    still = decide(after(seen, waits, live=speaking(phase, REFUSED)))
    assert still.status is None
    goes_on = decide(after(seen, waits, live=speaking(phase, "")))
    assert message(goes_on, ConditionType.RUNNING) == message(first, ConditionType.RUNNING)


def test_pods_of_a_phase_that_is_over_are_not_quoted() -> None:
    seen = dataclasses.replace(at_work(FINALIZE), live=speaking(GENERATE, REFUSED))
    assert "waiting" not in message(decide(seen), ConditionType.RUNNING)


def test_files_left_out_are_told_once_and_stay_in_the_status() -> None:
    job = a_job(shards=3)
    last = plan_message().model_copy(update={"left_out": "3 .csv (convert them)"})
    pod = a_pod(job, PLAN, status="Succeeded", exit_code=0, message=last)
    seen = observation(job, [a_child(job, PLAN, complete=True)], [pod], referents=CLAIMS)
    first = decide(seen)
    note = ("Normal", "FilesLeftOut", "Left out of the input: 3 .csv (convert them)")
    assert note in told(first)
    gone = decide(dataclasses.replace(after(seen, first), pods=()))
    status_now = gone.status or first.status
    assert status_now is not None
    assert status_now.files_left_out == "3 .csv (convert them)"
    assert note not in told(gone)


def test_one_pod_that_does_everything_tells_of_files_left_out_while_it_runs() -> None:
    job = a_job()
    live = speaking(GENERATE, "", left_out="3 .csv")
    result = decide(observation(job, [a_child(job, GENERATE, active=1, ready=1)], live=live))
    assert ("Normal", "FilesLeftOut", "Left out of the input: 3 .csv") in told(result)


def test_the_first_failed_records_are_told_and_later_ones_are_numbers() -> None:
    seen = at_work(GENERATE)
    first = decide(seen)
    fails = decide(after(seen, first, live=speaking(GENERATE, "", failures=(BAD,))))
    assert told(fails) == [
        (
            "Warning",
            "RecordsFailed",
            "Records failed: BadInput: no text; errors/ in the output has them.",
        )
    ]
    assert not fails.progress_only
    other = BAD.model_copy(update={"message": "another text"})
    same = decide(after(seen, fails, live=speaking(GENERATE, "", failures=(other,))))
    assert same.status is None, "another example is nothing new"
    more = (BAD.model_copy(update={"count": 5, "message": "x"}), REFUSAL)
    grown = decide(after(seen, fails, live=speaking(GENERATE, "", failures=more)))
    assert (grown.progress_only, grown.events) == (True, ())
    assert grown.status is not None
    assert grown.status.failures == (BAD.model_copy(update={"count": 5}), REFUSAL)
    forgotten = decide(after(seen, grown, live=speaking(GENERATE, "", failures=(REFUSAL,))))
    assert forgotten.status is None, "a pod that was replaced has not lost what failed"


def finished(failed: int, *kinds: Failures) -> Plan:
    job = a_job(shards=3)
    last = run_message()
    assert last.totals is not None
    records = RecordCounts(in_=6, done=6, accepted=12 - failed, failed=failed)
    totals = last.totals.model_copy(update={"records": records})
    last = last.model_copy(update={"totals": totals, "failures": kinds or None})
    pod = a_pod(job, FINALIZE, status="Succeeded", exit_code=0, message=last)
    return decide(
        observation(job, [a_child(job, FINALIZE, complete=True, verdict=ALL_GOOD)], [pod])
    )


@pytest.mark.parametrize(
    ("failed", "kinds", "said"),
    [
        pytest.param(0, (), "All 3 shards succeeded.", id="none"),
        pytest.param(
            3,
            (BAD, REFUSAL),
            "All 3 shards succeeded. 3 records failed, most often BadInput (2): no text; errors/ "
            "in the output has all of them.",
            id="some",
        ),
        pytest.param(
            1,
            (REFUSAL,),
            "All 3 shards succeeded. 1 record failed, most often Refusal (1): I cannot; errors/ in "
            "the output has all of them.",
            id="one",
        ),
        pytest.param(
            3,
            (),
            "All 3 shards succeeded. 3 records failed; errors/ in the output has all of them.",
            id="older-runner",
        ),
    ],
)
def test_a_complete_job_says_what_its_failed_records_failed_of(
    failed: int, kinds: tuple[Failures, ...], said: str
) -> None:
    result = finished(failed, *kinds)
    assert message(result, ConditionType.COMPLETE) == said
    assert result.status is not None
    assert result.status.failures == (kinds or None)
    assert [event for event in told(result) if event[1] == "AllShardsSucceeded"] == [
        ("Normal", "AllShardsSucceeded", said)
    ]


def test_kinds_that_a_pod_names_twice_are_stored_once() -> None:
    # The list is a map by kind: the API server would refuse the status, again and again.
    result = finished(4, BAD, BAD)
    assert result.status is not None
    assert result.status.failures == (BAD,)
