"""Asks running pods how far they are. Hints only: no answer, late or wrong, can hurt a job.

Every round asks each running pod once, a bounded number at a time and with a short timeout. What
they say goes into the `ProgressBook`; a job is then looked at, no more often than its numbers may
be written, and at once where its pods say that they wait for something. Pods of plan and finalize
are asked for that alone: only shards have counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import aiohttp
from pydantic import ValidationError

from kubesynth_api.runner_contract import PROGRESS_PATH, ProgressReport, RunnerPhase
from kubesynth_operator import pod_requests
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.observation import JobKey, Pod
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_operator.settings import OperatorSettings
from kubesynth_operator.unreadable import Unreadable

_logger = logging.getLogger(__name__)


class ProgressPoller:
    """Polls the running pods of all jobs, round by round."""

    def __init__(
        self,
        pods: ChildCache[Pod],
        book: ProgressBook,
        settings: OperatorSettings,
        unreadable: Unreadable,
        *,
        clock: Callable[[], datetime],
        look_at: Callable[[JobKey], None],
    ) -> None:
        self._pods = pods
        self._book = book
        self._settings = settings
        self._unreadable = unreadable
        self._clock = clock
        self._look_at = look_at
        self._told_at: dict[JobKey, datetime] = {}

    async def run(self) -> None:
        """Poll until cancelled."""
        limits = self._settings.limits
        timeout = aiohttp.ClientTimeout(total=limits.poll_timeout_seconds)
        connector = aiohttp.TCPConnector(limit=limits.poll_concurrency)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                await self.poll_once(session)
                await asyncio.sleep(limits.poll_seconds)

    async def poll_once(self, session: aiohttp.ClientSession) -> None:
        """Ask every running pod once."""
        targets = [(key, pod) for key, pod in self._pods.all() if _is_at_work(pod)]
        at_work: dict[str, set[RunnerPhase]] = {}
        for _, pod in targets:
            at_work.setdefault(pod.job_uid, set()).add(pod.phase)
        self._book.keep({pod.job_uid for _, pod in self._pods.all()}, at_work=at_work)
        gate = asyncio.Semaphore(self._settings.limits.poll_concurrency)

        async def ask(pod: Pod) -> bool:
            async with gate:
                with self._unreadable.left_out("progress", pod.name, pod.uid):
                    return await self._ask(session, pod)
            return False

        answers = await asyncio.gather(*(ask(pod) for _, pod in targets))
        rounds: dict[tuple[JobKey, str], Counter[bool]] = {}
        for (key, pod), answered in zip(targets, answers, strict=True):
            found = rounds.setdefault((key, pod.job_uid), Counter())
            if pod.phase is RunnerPhase.GENERATE:
                found[answered] += 1
        now = self._clock()
        for (key, job_uid), found in rounds.items():
            self._book.record_round(
                job_uid, reachable=found[True], unreachable=found[False], now=now
            )
            self._tell(key, now, is_news=self._book.settle(job_uid, now=now))
        polled = {key for key, _ in rounds}
        self._told_at = {key: at for key, at in self._told_at.items() if key in polled}

    async def _ask(self, session: aiohttp.ClientSession, pod: Pod) -> bool:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        url = f"http://{host}:{self._settings.runner_port}{PROGRESS_PATH}"
        try:
            answer = await pod_requests.ask(session, url)
            if answer.status != 200:
                return False
            report = ProgressReport.from_peer(answer.body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as exc:
            _logger.debug("no progress", extra={"pod": pod.name, "error": str(exc)})
            return False
        if pod.phase is RunnerPhase.GENERATE:
            self._book.record(pod.job_uid, pod.index, report, now=self._clock())
        else:
            self._book.record_words(pod.job_uid, pod.phase, report, now=self._clock())
        return True

    def _tell(self, key: JobKey, now: datetime, *, is_news: bool) -> None:
        told_at = self._told_at.get(key)
        pause = timedelta(seconds=self._settings.limits.progress_write_seconds)
        if is_news or told_at is None or now - told_at >= pause:
            self._told_at[key] = now
            self._look_at(key)


def _is_at_work(pod: Pod) -> bool:
    return pod.status == "Running" and not pod.deleting and bool(pod.ip)
