from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_runner.metrics import ProgressCollector
from kubesynth_runner.progress import Progress
from kubesynth_runner.tally import Tally


def test_rate_follows_what_was_done_since_the_process_began() -> None:
    progress = Progress(RunnerPhase.GENERATE, tally=Tally(done=1000))  # of earlier attempts
    progress.tick(0.0)
    for second in range(1, 11):
        progress.tally.done += 5
        progress.tick(float(second))
    assert progress.report().records_per_second == pytest.approx(5.0)


def test_a_report_has_the_commonest_failures_and_no_half_characters() -> None:
    tally = Tally(failed=9)
    for number in range(9):
        tally.note_failure(f"Kind{number}", "\ud83d" * 300, number + 1)
    report = Progress(RunnerPhase.GENERATE, tally=tally, left_out="x" * 900).report()
    assert [each.kind for each in report.failures] == [f"Kind{n}" for n in (8, 7, 6, 5, 4)]
    assert len(report.failures[0].message) == 200
    assert report.left_out == "x" * 500
    json.dumps(report.to_wire(), ensure_ascii=False).encode()


def test_rate_of_a_stalled_process_falls() -> None:
    progress = Progress(RunnerPhase.GENERATE)
    progress.tick(0.0)
    progress.tally.done = 10
    progress.tick(1.0)
    for second in range(2, 200):
        progress.tick(float(second))
    assert progress.report().records_per_second < 0.1


def test_metrics_tell_the_tally_and_the_gates() -> None:
    gate = Gate(4)
    gate.admission.try_enter(0.0)
    connection = ModelConnection("generator", "m", FakeChatClient(""), gate, True, 3, 60.0)
    progress = Progress(
        RunnerPhase.GENERATE,
        input_records=9,
        tally=Tally(done=2, accepted=3, prompt_tokens=7, requests_rate_limited=1),
        connections={"generator": connection},
    )
    registry = CollectorRegistry()
    registry.register(ProgressCollector(progress))
    text = generate_latest(registry).decode()
    for line in (
        'kubesynth_runner_records_total{state="done"} 2.0',
        'kubesynth_runner_records_total{state="accepted"} 3.0',
        'kubesynth_runner_tokens_total{kind="prompt"} 7.0',
        'kubesynth_runner_requests_total{outcome="rate_limited"} 1.0',
        "kubesynth_runner_input_records 9.0",
        'kubesynth_runner_requests_in_flight{model="generator"} 1.0',
        'kubesynth_runner_concurrency_limit{model="generator"} 4.0',
        'kubesynth_runner_requests_waiting{model="generator"} 0.0',
        'kubesynth_runner_model_outage{model="generator"} 0.0',
    ):
        assert line in text
