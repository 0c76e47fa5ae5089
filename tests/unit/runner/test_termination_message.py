from __future__ import annotations

import json

import pytest

from kubesynth_api.runner_contract import (
    TERMINATION_MESSAGE_MAX_BYTES,
    Failures,
    RunnerError,
    RunnerPhase,
    TerminationMessage,
)
from kubesynth_runner.__main__ import encode_termination_message
from kubesynth_runner.tally import Tally

MANY = 10**15
TOTALS = Tally(MANY, MANY, MANY, MANY, MANY, MANY, MANY, MANY, MANY, MANY, MANY).to_totals(MANY)


@pytest.mark.parametrize(
    "text", ["short", "x" * 5000, "\x00" * 5000, '"' * 5000, "字" * 5000, "😀" * 5000, ""]
)
def test_message_fits_and_stays_json(text: str) -> None:
    error = RunnerError(reason="InvalidSpec", message=text)
    data = encode_termination_message(TerminationMessage(phase=RunnerPhase.PLAN, error=error))
    assert len(data) <= TERMINATION_MESSAGE_MAX_BYTES
    found = json.loads(data)["error"]
    assert found["reason"] == "InvalidSpec"
    assert text.startswith(found["message"])
    if text:
        assert found["message"]


def test_some_failures_and_the_uris_survive_long_words() -> None:
    uri = "pvc://claim/" + "x" * 100
    kinds = tuple(Failures(kind=f"Kind{n}", count=9 - n, message="字" * 200) for n in range(5))
    message = TerminationMessage(
        phase=RunnerPhase.ALL,
        totals=TOTALS,
        manifest_uri=uri,
        report_uri=uri,
        failures=kinds,
        left_out="3 .csv " * 70,
    )
    data = encode_termination_message(message)
    assert len(data) <= TERMINATION_MESSAGE_MAX_BYTES
    found = TerminationMessage.model_validate_json(data)
    assert found.failures
    assert found.failures == kinds[: len(found.failures)]
    assert found.left_out is not None
    assert (found.totals, found.manifest_uri, found.report_uri) == (TOTALS, uri, uri)


def test_totals_survive_the_longest_uris() -> None:
    uri = "pvc://claim/" + "x" * 1200
    message = TerminationMessage(
        phase=RunnerPhase.FINALIZE, totals=TOTALS, manifest_uri=uri, report_uri=uri
    )
    data = encode_termination_message(message)
    assert len(data) <= TERMINATION_MESSAGE_MAX_BYTES
    assert json.loads(data)["totals"] == TOTALS.to_wire()
