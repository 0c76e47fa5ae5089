"""What operator and runners of different builds make of each other's messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from kubesynth_api.runner_contract import Lease, LeaseReport, ModelShare, ProgressReport

REPORT: dict[str, Any] = {
    "phase": "generate",
    "shardIndex": 2,
    "totals": {"records": {"in": 3, "done": 1}, "tokens": {"prompt": 40}},
}


def test_what_is_new_in_a_message_is_left_out_at_every_depth() -> None:
    newer = json.loads(json.dumps(REPORT))
    newer["mood"] = "good"
    newer["totals"]["images"] = {"done": 1}
    newer["totals"]["records"]["postponed"] = 4
    known = ProgressReport.from_peer(json.dumps(REPORT))
    assert ProgressReport.from_peer(json.dumps(newer)) == known
    assert known.totals.records.done == 1


def test_what_is_known_must_fit() -> None:
    with pytest.raises(ValidationError, match="done"):
        ProgressReport.from_peer('{"phase": "generate", "totals": {"records": {"done": -1}}}')
    with pytest.raises(ValidationError, match="JSON"):
        ProgressReport.from_peer(b"<html>")


LEASE = Lease(generation=3, models={"generator": ModelShare(concurrency=4)})


@pytest.mark.parametrize("sent", [LEASE, LeaseReport(lease=LEASE, waits_for="TargetReached")])
def test_leases_of_another_build_are_read(sent: Lease | LeaseReport) -> None:
    newer = {**sent.to_wire(), "colour": "red"}
    assert type(sent).from_peer(json.dumps(newer)) == sent
