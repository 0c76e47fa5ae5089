"""The latest word of every shard, summed: live hints, kept in memory and nowhere else.

A shard's word is its pod's last `/progress`, and in the end its termination message, which is
final. Sums are kept up to date word by word, so that a job of ten thousand shards costs no more to
look at than a job of one. Losing the book costs nothing: it is rebuilt from the next answers, and
the truth is in the output.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import datetime

from kubesynth_api.runner_contract import (
    ProgressReport,
    RecordCounts,
    RequestCounts,
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
class _Page:
    """One job's shards. Mutable; belongs to the book alone."""

    changed_at: datetime
    words: dict[int, Numbers] = dataclasses.field(default_factory=dict)
    final: set[int] = dataclasses.field(default_factory=set)
    rates: dict[int, float] = dataclasses.field(default_factory=dict)
    messages: dict[int, str] = dataclasses.field(default_factory=dict)
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

    def hear(self, index: int, message: str) -> None:
        if message:
            self.messages[index] = message[:_MESSAGE_CHARACTERS]
        else:
            self.messages.pop(index, None)

    def hush(self) -> None:
        self.rates.clear()
        self.messages.clear()

    def most_said(self) -> str:
        # Of equally many the first in order: it must not change from round to round.
        counts = Counter(self.messages.values())
        return min(counts, key=lambda text: (-counts[text], text), default="")


class ProgressBook:
    """Pages by job uid."""

    def __init__(self) -> None:
        self._pages: dict[str, _Page] = {}

    def record(self, job_uid: str, index: int, report: ProgressReport, *, now: datetime) -> None:
        """Take what a running pod of shard `index` says. A shard's final word is not replaced."""
        page = self._page(job_uid, now)
        if index in page.final:
            return
        page.rates[index] = report.records_per_second
        page.hear(index, report.message)
        page.take(index, _numbers(report.totals), now)

    def record_end(
        self, job_uid: str, index: int, totals: Totals, *, succeeded: bool, now: datetime
    ) -> None:
        """Take a pod's last words; they are final if it succeeded."""
        page = self._page(job_uid, now)
        if index in page.final:
            return
        page.rates.pop(index, None)
        page.hear(index, "")
        page.take(index, _numbers(totals), now)
        if succeeded:
            page.final.add(index)

    def record_round(
        self, job_uid: str, *, reachable: int, unreachable: int, now: datetime
    ) -> None:
        """Take how many of a job's running pods answered in one round of questions."""
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
            page.hush()

    def live(self, job_uid: str) -> LiveProgress | None:
        """Return the sums of a job, or None when no shard has said anything."""
        page = self._pages.get(job_uid)
        if page is None:
            return None
        return LiveProgress(
            totals=_totals(page.sum),
            records_per_second=sum(page.rates.values()),
            reachable=page.reachable,
            unreachable=page.unreachable,
            changed_at=page.changed_at,
            unreachable_since=page.unreachable_since,
            message=page.most_said(),
        )

    def keep(self, job_uids: set[str], *, at_work: set[str]) -> None:
        """Drop the pages of all jobs but these, and quieten those without a running pod.

        A job without a pod has nothing to say; one whose pods do not run neither moves nor stalls.
        """
        self._pages = {uid: page for uid, page in self._pages.items() if uid in job_uids}
        for uid, page in self._pages.items():
            if uid not in at_work:
                page.reachable = page.unreachable = 0
                page.unreachable_since = None
                page.hush()

    def _page(self, job_uid: str, now: datetime) -> _Page:
        page = self._pages.get(job_uid)
        if page is None:
            page = self._pages[job_uid] = _Page(changed_at=now)
        return page
