"""The algebra of conditions."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_operator import status, wire
from kubesynth_operator.status import Verdict
from kubesynth_testing.builders import NOW, a_status

LATER = NOW + timedelta(hours=1)
RUNNING = ConditionType.RUNNING


def test_the_transition_time_moves_only_with_the_status() -> None:
    before = a_status((RUNNING, True, "Planning"), at=NOW).conditions
    (same,) = status.merge(
        before, {RUNNING: Verdict(True, Reason.SHARDS_ACTIVE, "on")}, generation=2, now=LATER
    )
    assert same.last_transition_time == wire.format_time(NOW)
    assert (same.reason, same.observed_generation) == ("ShardsActive", 2)
    (changed,) = status.merge(
        before, {RUNNING: Verdict(False, Reason.FINISHED, "off")}, generation=2, now=LATER
    )
    assert changed.last_transition_time == wire.format_time(LATER)


def test_conditions_come_in_one_order_and_those_without_a_verdict_go() -> None:
    before = a_status((ConditionType.DEGRADED, True, "ProgressStalled")).conditions
    verdicts = {
        ConditionType.READY: Verdict(False, Reason.IN_PROGRESS, ""),
        ConditionType.ACCEPTED: Verdict(True, Reason.VALID, ""),
        RUNNING: Verdict(True, Reason.PLANNING, ""),
    }
    merged = status.merge(before, verdicts, generation=1, now=NOW)
    assert [item.type for item in merged] == ["Accepted", "Running", "Ready"]


@pytest.mark.parametrize(
    ("verdicts", "mirrors"),
    [
        pytest.param(
            {RUNNING: Verdict(True, Reason.PLANNING, "m")},
            {"Reconciling": (True, "InProgress"), "Ready": (False, "InProgress")},
            id="under-way",
        ),
        pytest.param(
            {ConditionType.COMPLETE: Verdict(True, Reason.ALL_SHARDS_SUCCEEDED, "m")},
            {"Ready": (True, "AllShardsSucceeded")},
            id="complete",
        ),
        pytest.param(
            {ConditionType.FAILED: Verdict(True, Reason.RUNNER_FAILED, "m")},
            {"Stalled": (True, "RunnerFailed"), "Ready": (False, "RunnerFailed")},
            id="failed",
        ),
        pytest.param(
            {ConditionType.ACCEPTED: Verdict(False, Reason.INVALID_SPEC, "m")},
            {"Stalled": (True, "InvalidSpec"), "Ready": (False, "InvalidSpec")},
            id="refused",
        ),
        pytest.param(
            {ConditionType.SUSPENDED: Verdict(True, Reason.SUSPENDED_BY_USER, "m")},
            {"Ready": (False, "SuspendedByUser")},
            id="suspended",
        ),
    ],
)
def test_what_kstatus_reads(
    verdicts: dict[ConditionType, Verdict], mirrors: dict[str, tuple[bool, str]]
) -> None:
    added = {
        kind.value: (verdict.status, verdict.reason.value)
        for kind, verdict in status.with_mirrors(verdicts).items()
        if kind not in verdicts
    }
    assert added == mirrors


def told(
    before: tuple[tuple[ConditionType, bool, str], ...], *after: tuple[ConditionType, bool, str]
) -> list[tuple[str, str]]:
    found = status.transitions(a_status(*before), a_status(*after), NOW)
    return [(item.type, item.reason) for item in found]


def test_people_are_told_what_is_new_and_nothing_else() -> None:
    planning, active = (RUNNING, True, "Planning"), (RUNNING, True, "ShardsActive")
    assert told((), planning) == [("Normal", "Planning")]
    assert told((planning,), planning) == []
    assert told((planning,), active) == [("Normal", "ShardsActive")]
    assert (
        told((), (RUNNING, False, "NotStarted"), (ConditionType.COMPLETE, False, "NotComplete"))
        == []
    )
    assert told((), (ConditionType.READY, False, "InProgress")) == []


def test_bad_news_are_warnings() -> None:
    assert told((), (ConditionType.FAILED, True, "RunnerFailed")) == [("Warning", "RunnerFailed")]
    assert told((), (ConditionType.ACCEPTED, False, "InvalidSpec")) == [("Warning", "InvalidSpec")]
    assert told((), (ConditionType.DEGRADED, True, "ProgressStalled")) == [
        ("Warning", "ProgressStalled")
    ]
    assert told(((ConditionType.DEGRADED, True, "ProgressStalled"),)) == [
        ("Normal", "ProgressStalled")
    ]
