"""Divides the limits of running jobs over their pods: asks what each holds, takes back, then gives.

A round asks every pod of a job, sends what has to be taken back, and only then gives what is free
by the answers. All that is known is in a `JobLeases` for each job; whatever goes wrong on the way
(no answer, a stale lease, a pod that is gone) leaves the pod with what it may have by then.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
from collections.abc import Callable, Iterable

import aiohttp
from pydantic import ValidationError

from kubesynth_api.conditions import ConditionType
from kubesynth_api.runner_contract import (
    LEASE_PATH,
    LEASE_TOKEN_KEY,
    PROGRESS_PATH,
    LeaseReport,
    ProgressReport,
    RunnerPhase,
)
from kubesynth_api.shares import whole_caps
from kubesynth_operator import assess, pod_requests, status
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import SECRETS
from kubesynth_operator.lease_book import JobLeases, LivePod, Offer, Terms
from kubesynth_operator.observation import (
    ENDS_OF_SHARDS,
    ChildJob,
    JobKey,
    LeaseView,
    Observation,
    Pod,
    indexes,
)
from kubesynth_operator.policies import leases
from kubesynth_operator.resources import naming
from kubesynth_operator.settings import Limits, OperatorSettings
from kubesynth_operator.unreadable import Unreadable

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Desk:
    """One job whose limits are divided. `seen` is what the last round was made on.

    `gate` is for its own requests: one job's pods that swallow packets are to keep the places of
    some, and not of all.
    """

    key: JobKey
    leases: JobLeases
    gate: asyncio.Semaphore
    busy: bool = False
    token: str = ""
    quiet: bool = False
    # Pods whose last words were taken.
    heard: set[str] = dataclasses.field(default_factory=set)
    seen: object = None
    view: LeaseView | None = None


class LeaseKeeper:
    """Leases the pods of all jobs their shares, round by round."""

    def __init__(
        self,
        client: KubeClient,
        pods: ChildCache[Pod],
        settings: OperatorSettings,
        unreadable: Unreadable,
        *,
        look_at: Callable[[JobKey], None],
    ) -> None:
        self._client = client
        self._pods = pods
        self._settings = settings
        self._unreadable = unreadable
        self._look_at = look_at
        self._gate = asyncio.Semaphore(settings.limits.lease_concurrency)
        self._desks: dict[str, _Desk] = {}
        # Jobs whose shards are not there yet: nobody else can have leased them anything.
        self._fresh: dict[str, JobKey] = {}

    def view(self, job_uid: str) -> LeaseView | None:
        """Return what dividing a job's limits has shown; None before there was anything to."""
        desk = self._desks.get(job_uid)
        return desk.view if desk else None

    def observed(self, observation: Observation) -> None:
        """Take what a job and its Job of shards say now."""
        job, child = observation.job, observation.children.get(RunnerPhase.GENERATE)
        if job.spec is None or status.has_ended(job.status) or job.deleting:
            self._desks.pop(job.uid, None)
            self._fresh.pop(job.uid, None)
            return
        if child is None:
            if not observation.has_lease_secret:
                self._fresh[job.uid] = job.key
            return
        terms = _terms(observation, child)
        if terms is None or child.finished:
            return
        desk = self._desks.get(job.uid)
        if desk is None:
            book = JobLeases(terms, fresh=self._fresh.pop(job.uid, None) is not None)
            gate = asyncio.Semaphore(self._settings.limits.poll_concurrency)
            desk = self._desks[job.uid] = _Desk(job.key, book, gate)
        desk.leases.go_by(terms)
        # Pods that are about to be stopped are left alone.
        running = status.find(job.status, ConditionType.RUNNING)
        early = running and running.reason in ENDS_OF_SHARDS
        desk.quiet = bool(early) or job.spec.suspend or child.suspended

    def pod_ended(self, pod: Pod) -> None:
        """Take a shard's last words as soon as they are known."""
        desk = self._desks.get(pod.job_uid)
        if desk is None or pod.uid in desk.heard:
            return
        said = pod.message.lease if pod.message is not None else None
        if said is None or desk.leases.ended(pod.index, said):
            desk.heard.add(pod.uid)

    def forget(self, key: JobKey) -> None:
        """Drop what is known about a job that is gone."""
        self._desks = {uid: desk for uid, desk in self._desks.items() if desk.key != key}
        self._fresh = {uid: other for uid, other in self._fresh.items() if other != key}

    async def run(self) -> None:
        """Lease until cancelled; no job waits for another one's round."""
        limits = self._settings.limits
        async with _session(limits) as session, asyncio.TaskGroup() as rounds:
            while True:
                for uid, desk in self._desks.items():
                    if not desk.busy:
                        desk.busy = True
                        rounds.create_task(self._try_round(session, uid, desk))
                await asyncio.sleep(limits.lease_seconds)

    async def _try_round(self, session: aiohttp.ClientSession, uid: str, desk: _Desk) -> None:
        try:
            with self._unreadable.left_out("leases", f"{desk.key.namespace}/{desk.key.name}", uid):
                await self._round(session, uid, desk)
        finally:
            desk.busy = False

    async def _round(self, session: aiohttp.ClientSession, uid: str, desk: _Desk) -> None:
        pods = [pod for pod in self._pods.of_job(desk.key) if _is_shard_of(pod, uid)]
        live = [pod for pod in pods if not pod.ended]
        book = desk.leases
        newest = _newest(pods)
        # What earlier pods of a shard have said is out of date, also when the later one is gone.
        desk.heard |= {pod.uid for pod in pods if pod.ended} - {pod.uid for pod in newest}
        for pod in newest:
            if pod.ended:
                self.pod_ended(pod)
        book.see(LivePod(pod.uid, pod.index, new=pod.status == "Pending") for pod in live)
        seen = (book.terms, frozenset((pod.uid, pod.status, pod.ip) for pod in live))
        if desk.quiet or (seen == desk.seen and not book.has_caps):
            return
        book.forget_answers()
        if not desk.token and not await self._fetch_token(desk):
            return
        targets = {pod.uid: self._url(pod) for pod in live if _is_at_work(pod)}
        await self._ask(session, desk, targets)
        back = book.reductions()
        await self._offer(session, desk, back, targets)
        given = book.grants()
        await self._offer(session, desk, given, targets)
        settled = not book.reductions() and not book.grants() and book.have_answered(targets)
        desk.seen = seen if settled else None
        view = LeaseView(book.slots_allowed(), book.end())
        if view != desk.view:
            desk.view = view
            self._look_at(desk.key)

    async def _fetch_token(self, desk: _Desk) -> bool:
        name = naming.lease_secret_name(desk.key.name)
        try:
            raw = await self._client.get(SECRETS, desk.key.namespace, name)
            desk.token = base64.b64decode(raw["data"][LEASE_TOKEN_KEY]).decode()
        except (errors.KubeError, KeyError, ValueError) as exc:
            _logger.warning("no token to lease with", extra={"secret": name, "error": str(exc)})
        return bool(desk.token)

    def _url(self, pod: Pod) -> str:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        return f"http://{host}:{self._settings.runner_port}"

    async def _ask(
        self, session: aiohttp.ClientSession, desk: _Desk, targets: dict[str, str]
    ) -> None:
        async def ask(uid: str, url: str) -> None:
            try:
                async with desk.gate, self._gate:
                    answer = await pod_requests.ask(session, url + PROGRESS_PATH)
                report = ProgressReport.from_peer(answer.body).lease
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as exc:
                _logger.debug("no lease report", extra={"pod": uid, "error": str(exc)})
                return
            if report is not None:
                desk.leases.answered(uid, report)

        await asyncio.gather(*(ask(uid, url) for uid, url in targets.items()))

    async def _offer(
        self,
        session: aiohttp.ClientSession,
        desk: _Desk,
        offers: Iterable[Offer],
        targets: dict[str, str],
    ) -> None:
        headers = {"Authorization": f"Bearer {desk.token}", "Content-Type": "application/json"}

        async def offer(item: Offer) -> None:
            desk.leases.offered(item)
            url = targets[item.uid] + LEASE_PATH
            body = item.lease.model_dump_json(by_alias=True, exclude_none=True)
            try:
                async with desk.gate, self._gate:
                    answer = await pod_requests.tell(session, url, body, headers)
                # 200 and 409 come with a report, and whatever else there is does not.
                report = LeaseReport.from_peer(answer.body)
            except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as exc:
                _logger.info("lease not taken", extra={"pod": item.uid, "error": str(exc)})
                desk.leases.silent(item.uid)
                return
            desk.leases.answered(item.uid, report)

        await asyncio.gather(*(offer(item) for item in offers))


def _session(limits: Limits) -> aiohttp.ClientSession:
    # Its own limit of connections would let requests wait on the time that a pod has to answer.
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=limits.poll_timeout_seconds)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


def _newest(pods: Iterable[Pod]) -> list[Pod]:
    """Return the last pod of each shard: what the ones before it held may be out of date."""
    last: dict[int, Pod] = {}
    for pod in sorted(pods, key=lambda pod: (not pod.ended, pod.finished_at)):
        last[pod.index] = pod
    return list(last.values())


def _is_shard_of(pod: Pod, job_uid: str) -> bool:
    return pod.job_uid == job_uid and pod.phase is RunnerPhase.GENERATE


def _is_at_work(pod: Pod) -> bool:
    return pod.status == "Running" and not pod.deleting and bool(pod.ip)


def _terms(observation: Observation, child: ChildJob) -> Terms | None:
    if child.first_share is None:
        return None
    spec = observation.spec
    over = indexes(child.completed_indexes) | indexes(child.failed_indexes)
    return Terms(
        limits=leases.rate_limits(spec),
        caps=whole_caps(spec),
        first=child.first_share,
        shards=spec.shards.count,
        slots=child.parallelism,
        wanted_slots=min(assess.mountable_parallelism(observation), child.completions),
        remaining=child.completions - len(over),
        over=over,
    )
