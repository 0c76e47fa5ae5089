"""The latest word of every shard, summed: live hints, kept in memory and nowhere else.

A shard's word is its pod's last `/progress`, and in the end its termination message, which is
final. Sums are kept up to date word by word, so that a job of ten thousand shards costs no more to
look at than a job of one. Losing the book costs nothing: it is rebuilt from the next answers, and
the truth is in the output.

What pods say in words is taken from all phases. It is told at once, and then for a while not
otherwise: what two models say in turns must not become a write for every turn.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta

from kubesynth_api.runner_contract import (
    FAILURES_TOLD,
    Failures,
    ProgressReport,
    RecordCounts,
    RequestCounts,
    RunnerPhase,
    TerminationMessage,
    TokenCounts,
    Totals,
)
from kubesynth_operator.observation import LiveProgress

_FIELDS = 13
# Of what a pod says: it goes into a condition's message.
_MESSAGE_CHARACTERS = 500
_MICROS_PER_USD = 1_000_000
Numbers = tuple[int, ...]
_ZERO: Numbers = (0,) * _FIELDS
# A pod, by its phase and index.
Speaker = tuple[RunnerPhase, int]
_SILENCE = (RunnerPhase.GENERATE, "")


def _numbers(totals: Totals) -> Numbers:
    records, tokens, requests = totals.records, totals.tokens, totals.requests
    return (
        records.in_,
        records.done,
        records.accepted,
        records.filtered,
        records.failed,
        tokens.prompt,
        tokens.completion,
        tokens.estimated,
        requests.ok,
        requests.retried,
        requests.rate_limited,
        totals.cost_usd is not None,
        round((totals.cost_usd or 0.0) * _MICROS_PER_USD),
    )


def _totals(numbers: Numbers) -> Totals:
    in_, done, accepted, filtered, failed, *others = numbers
    prompt, completion, estimated, ok, retried, limited, has_cost, micros = others
    return Totals(
        records=RecordCounts(
            in_=in_, done=done, accepted=accepted, filtered=filtered, failed=failed
        ),
        tokens=TokenCounts(prompt=prompt, completion=completion, estimated=estimated),
        requests=RequestCounts(ok=ok, retried=retried, rate_limited=limited),
        cost_usd=micros / _MICROS_PER_USD if has_cost else None,
    )


@dataclasses.dataclass(slots=True)
class _Failures:
    """Kinds of failures, summed over shards."""

    shards: dict[int, tuple[Failures, ...]] = dataclasses.field(default_factory=dict)
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def take(self, index: int, found: Sequence[Failures]) -> None:
        old, new = self.shards.get(index, ()), tuple(found)
        if new == old:
            return
        self.shards[index] = new
        for failures in old:
            self.counts[failures.kind] -= failures.count
        for failures in new:
            self.counts[failures.kind] += failures.count
            self.examples.setdefault(failures.kind, failures.message)

    def commonest(self) -> tuple[Failures, ...]:
        found = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(
            Failures(kind=kind, count=count, message=self.examples[kind])
            for kind, count in found[:FAILURES_TOLD]
            if count > 0
        )


@dataclasses.dataclass(slots=True)
class _Page:
    """One job's shards. Mutable; belongs to the book alone."""

    changed_at: datetime
    words: dict[int, Numbers] = dataclasses.field(default_factory=dict)
    final: set[int] = dataclasses.field(default_factory=set)
    rates: dict[int, float] = dataclasses.field(default_factory=dict)
    messages: dict[Speaker, str] = dataclasses.field(default_factory=dict)
    failures: _Failures = dataclasses.field(default_factory=_Failures)
    left_out: str = ""
    said: tuple[RunnerPhase, str] = _SILENCE
    said_at: datetime | None = None
    sum: Numbers = _ZERO
    reachable: int = 0
    unreachable: int = 0
    unreachable_since: datetime | None = None

    def take(self, index: int, word: Numbers, now: datetime) -> None:
        old = self.words.get(index, _ZERO)
        if word == old:
            return
        self.words[index] = word
        self.sum = tuple(
            total - was + is_now for total, was, is_now in zip(self.sum, old, word, strict=True)
        )
        self.changed_at = now

    def hear(self, speaker: Speaker, message: str) -> None:
        if message:
            self.messages[speaker] = message[:_MESSAGE_CHARACTERS]
        else:
            self.messages.pop(speaker, None)

    def hear_only(self, phases: Set[RunnerPhase]) -> None:
        """Forget what pods of other phases have said."""
        if RunnerPhase.GENERATE not in phases:
            self.rates.clear()
        self.messages = {
            speaker: text for speaker, text in self.messages.items() if speaker[0] in phases
        }

    def settle(self, pause: timedelta, now: datetime) -> bool:
        """Decide what is told of what pods say; return whether that is another thing now."""
        said = self._most_said()
        if said == self.said or (self.said_at is not None and now - self.said_at < pause):
            return False
        self.said, self.said_at = said, now
        return True

    def _most_said(self) -> tuple[RunnerPhase, str]:
        # Of equally many the first in order: it must not change from round to round.
        counts = Counter((phase, text) for (phase, _), text in self.messages.items())
        return min(counts, key=lambda said: (-counts[said], said), default=_SILENCE)


class ProgressBook:
    """Pages by job uid."""

    def __init__(self, pause_seconds: float = 0.0) -> None:
        """Tell no more than one thing that pods say in `pause_seconds`."""
        self._pause = timedelta(seconds=pause_seconds)
        self._pages: dict[str, _Page] = {}

    def record(self, job_uid: str, index: int, report: ProgressReport, *, now: datetime) -> None:
        """Take what a running pod of shard `index` says. A shard's final word is not replaced."""
        page = self._page(job_uid, now)
        if index in page.final:
            return
        page.rates[index] = report.records_per_second
        page.left_out = report.left_out or page.left_out
        page.hear((RunnerPhase.GENERATE, index), report.message)
        page.failures.take(index, report.failures)
        page.take(index, _numbers(report.totals), now)

    def record_words(
        self, job_uid: str, phase: RunnerPhase, report: ProgressReport, *, now: datetime
    ) -> None:
        """Take what the pod of another phase says; it has no part in the shards' counts."""
        self._page(job_uid, now).hear((phase, 0), report.message)

    def record_end(
        self, job_uid: str, index: int, last: TerminationMessage, *, succeeded: bool, now: datetime
    ) -> None:
        """Take a pod's last words; they are final if it succeeded."""
        page = self._page(job_uid, now)
        if index in page.final or last.totals is None:
            return
        page.rates.pop(index, None)
        page.hear((RunnerPhase.GENERATE, index), "")
        if last.failures is not None:
            page.failures.take(index, last.failures)
        page.take(index, _numbers(last.totals), now)
        if succeeded:
            page.final.add(index)

    def record_round(
        self, job_uid: str, *, reachable: int, unreachable: int, now: datetime
    ) -> None:
        """Take how many of a job's running shards answered in one round of questions."""
        page = self._page(job_uid, now)
        if page.reachable + page.unreachable == 0:
            # Pods run again after a pause: only from here on does standing still mean anything.
            page.changed_at = now
        page.reachable, page.unreachable = reachable, unreachable
        if reachable or not unreachable:
            page.unreachable_since = None
        elif page.unreachable_since is None:
            page.unreachable_since = now
        if not reachable:
            page.hear_only(set(RunnerPhase) - {RunnerPhase.GENERATE})

    def settle(self, job_uid: str, *, now: datetime) -> bool:
        """Close a round of a job; return whether its pods say something else than was told."""
        return self._page(job_uid, now).settle(self._pause, now)

    def live(self, job_uid: str) -> LiveProgress | None:
        """Return the sums of a job, or None when no pod has said anything."""
        page = self._pages.get(job_uid)
        if page is None:
            return None
        speaker, message = page.said
        return LiveProgress(
            totals=_totals(page.sum),
            records_per_second=sum(page.rates.values()),
            reachable=page.reachable,
            unreachable=page.unreachable,
            changed_at=page.changed_at,
            unreachable_since=page.unreachable_since,
            message=message,
            speaker=speaker,
            failures=page.failures.commonest(),
            left_out=page.left_out,
        )

    def keep(self, job_uids: set[str], *, at_work: Mapping[str, Set[RunnerPhase]]) -> None:
        """Drop the pages of all jobs but these, and quieten phases without a running pod.

        A job without a pod has nothing to say; one whose shards do not run neither moves nor
        stalls.
        """
        self._pages = {uid: page for uid, page in self._pages.items() if uid in job_uids}
        for uid, page in self._pages.items():
            phases = at_work.get(uid, frozenset())
            if RunnerPhase.GENERATE not in phases:
                page.reachable = page.unreachable = 0
                page.unreachable_since = None
            page.hear_only(phases)
            if page.said[1] and page.said[0] not in phases:
                page.said, page.said_at = _SILENCE, None

    def _page(self, job_uid: str, now: datetime) -> _Page:
        page = self._pages.get(job_uid)
        if page is None:
            page = self._pages[job_uid] = _Page(changed_at=now)
        return page
