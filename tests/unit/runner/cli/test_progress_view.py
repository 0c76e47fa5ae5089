from __future__ import annotations

import io

from rich.console import Console

from kubesynth_api.runner_contract import (
    ProgressReport,
    RecordCounts,
    RunnerPhase,
    TokenCounts,
    Totals,
)
from kubesynth_runner.cli.progress_view import LINE_EVERY_SECONDS, BarView, LineView


def _report(phase: RunnerPhase, done: int, message: str = "") -> ProgressReport:
    totals = Totals(
        records=RecordCounts(in_=1200, done=done, accepted=done * 3, failed=1 if done else 0),
        tokens=TokenCounts(prompt=1000, completion=500),
    )
    return ProgressReport(phase=phase, totals=totals, message=message)


def test_lines_come_at_each_phase_and_every_ten_seconds() -> None:
    lines: list[str] = []
    now = 100.0
    view = LineView(lines.append, lambda: now)
    view.show(ProgressReport(phase=RunnerPhase.PLAN))
    view.show(_report(RunnerPhase.GENERATE, 0))
    view.show(_report(RunnerPhase.GENERATE, 10))
    now += LINE_EVERY_SECONDS
    view.show(_report(RunnerPhase.GENERATE, 1100, "rate limited"))
    view.close()
    assert lines == [
        "planning",
        "generating: 0 of 1,200 records, 0 rows, 1,500 tokens",
        "generating (rate limited): 1,100 of 1,200 records, 3,300 rows, 1 failed, 1,500 tokens",
    ]


def test_what_a_run_waits_for_is_shown_at_once() -> None:
    lines: list[str] = []
    now = 100.0
    view = LineView(lines.append, lambda: now)
    for message in ("", "waiting for judge: refused", "waiting for judge: refused"):
        view.show(_report(RunnerPhase.GENERATE, 0, message))
        now += 0.25
    counts = "0 of 1,200 records, 0 rows, 1,500 tokens"
    assert lines == [
        f"generating: {counts}",
        f"generating (waiting for judge: refused): {counts}",
    ]


def test_a_long_message_stands_above_the_bar_once() -> None:
    written = io.StringIO()
    view = BarView(Console(file=written, force_terminal=True, width=120))
    message = "waiting for judge: [Errno 111] the connection failed [http://llm.models.svc:8000/v1]"
    for _ in range(3):
        view.show(_report(RunnerPhase.GENERATE, 0, message))
    view.close()
    assert written.getvalue().count(message) == 1
    assert "generating (see above)" in written.getvalue()
