"""Showing a run's progress: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kubesynth_api.runner_contract import ProgressReport, RunnerPhase

LINE_EVERY_SECONDS = 10.0
# What a run says of itself goes beside the bar if it is no longer than this, or else above it.
BESIDE_BAR_CHARACTERS = 60
_DOING = {
    RunnerPhase.PLAN: "planning",
    RunnerPhase.GENERATE: "generating",
    RunnerPhase.FINALIZE: "finalizing",
}


class ProgressView(Protocol):
    """Where progress is shown."""

    def show(self, report: ProgressReport) -> None:
        """Show the state of the run; called several times a second."""
        ...

    def note(self, text: str) -> None:
        """Show a message that stays."""
        ...

    def close(self) -> None:
        """Leave the last state on the screen. Safe to repeat."""
        ...


class BarView:
    """A progress bar over the input records."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("records"),
            TextColumn("{task.fields[details]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=None, details="")
        self._progress.start()
        self._noted = ""

    def show(self, report: ProgressReport) -> None:
        """Move the bar."""
        records = report.totals.records
        beside = report
        if len(report.message) > BESIDE_BAR_CHARACTERS:
            if report.message != self._noted:
                self._noted = report.message
                self.note(report.message)
            beside = report.model_copy(update={"message": "see above"})
        self._progress.update(
            self._task,
            description=describe_phase(beside),
            completed=records.done,
            total=records.in_ or None,
            details=describe_counts(report),
        )

    def note(self, text: str) -> None:
        """Print above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Stop redrawing."""
        self._progress.stop()


class LineView:
    """A plain line at each change of phase, when the run has something to say, and every 10 s."""

    def __init__(
        self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._last_phase: RunnerPhase | None = None
        self._last_at = 0.0
        self._had_message = False

    def show(self, report: ProgressReport) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        is_news = report.phase is not self._last_phase or (report.message and not self._had_message)
        if not is_news and now - self._last_at < LINE_EVERY_SECONDS:
            return
        self._last_phase, self._last_at = report.phase, now
        self._had_message = bool(report.message)
        records = report.totals.records
        done = f"{records.done:,} of {records.in_:,} records" if records.in_ else ""
        parts = [done, describe_counts(report)] if done else []
        self._write(
            ": ".join([describe_phase(report), ", ".join(filter(None, parts))]).rstrip(": ")
        )

    def note(self, text: str) -> None:
        """Write the message."""
        self._write(text)

    def close(self) -> None:
        """Nothing is left open."""


def describe_phase(report: ProgressReport) -> str:
    """Return what is being done, in a word, with whatever the run says of itself."""
    doing = _DOING.get(report.phase, str(report.phase))
    return f"{doing} ({report.message})" if report.message else doing


def describe_counts(report: ProgressReport) -> str:
    """Return rows, failures and tokens so far."""
    totals = report.totals
    tokens = totals.tokens.prompt + totals.tokens.completion
    rows = totals.records.accepted
    parts = [f"{rows:,} row{'' if rows == 1 else 's'}"]
    if totals.records.failed:
        parts.append(f"{totals.records.failed:,} failed")
    if totals.requests.rate_limited:
        parts.append(f"{totals.requests.rate_limited:,} rate limited")
    parts.append(f"{tokens:,} tokens")
    return ", ".join(parts)
