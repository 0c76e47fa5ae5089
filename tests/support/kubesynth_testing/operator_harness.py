"""An operator beside a real control plane without nodes, and a test that plays the kubelet.

The API server, the Job controller and garbage collection are the real ones; pods are really made,
by the Job controller, and no machine runs them. `Namespace.play` sets a pod's status as a kubelet
would: that, and that alone, is acted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from kubesynth_api import labels
from kubesynth_api.runner_contract import (
    Estimate,
    ExitCode,
    RecordCounts,
    RunnerError,
    RunnerPhase,
    TerminationMessage,
    TokenCounts,
    Totals,
)
from kubesynth_operator.app import Application, first_end
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import (
    CLAIMS,
    EVENTS,
    JOBS,
    PODS,
    SYNTHETIC_DATA_JOBS,
    Resource,
)
from kubesynth_operator.kube.watch import Feedback, Name, Scope, Watch
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.observation import JobKey
from kubesynth_operator.settings import OperatorSettings
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing.background import going_on
from kubesynth_testing.builders import job_object

ResultT = TypeVar("ResultT")
# Garbage collection and restarts take a while beside a build that keeps all cores busy.
_WAIT_SECONDS = 90.0
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"


async def eventually(
    look: Callable[[], Awaitable[ResultT | None]], what: str, seconds: float = _WAIT_SECONDS
) -> ResultT:
    """Return the first result of `look` that is not None or False; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = await look()
        if result is not None and result is not False:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.1)


def plan_message(records: int = 6) -> TerminationMessage:
    """Return what a plan pod leaves behind."""
    return TerminationMessage(
        phase=RunnerPhase.PLAN, estimate=Estimate(calls=12, rows=12), input_records=records
    )


def shard_message(done: int = 2) -> TerminationMessage:
    """Return what a shard's pod leaves behind."""
    return TerminationMessage(phase=RunnerPhase.GENERATE, totals=a_total(done))


def run_message(phase: RunnerPhase = RunnerPhase.FINALIZE, done: int = 6) -> TerminationMessage:
    """Return what finalize, report or a one-shard job's pod leaves behind."""
    return TerminationMessage(
        phase=phase,
        totals=a_total(done),
        manifest_uri="pvc://datasets/qa/manifest.json",
        report_uri="pvc://datasets/qa/report.md",
    )


def error_message(phase: RunnerPhase, reason: str, message: str) -> TerminationMessage:
    """Return what a failing runner leaves behind."""
    return TerminationMessage(phase=phase, error=RunnerError(reason=reason, message=message))


def a_total(done: int) -> Totals:
    """Return the totals of `done` records that became two rows each."""
    return Totals(
        records=RecordCounts(in_=done, done=done, accepted=2 * done),
        tokens=TokenCounts(prompt=100 * done, completion=10 * done),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Namespace:
    """One namespace of the control plane, through an administrator's eyes."""

    client: KubeClient
    name: str

    async def create_claims(self, *names: str, mode: str = "ReadWriteMany") -> None:
        """Create volume claims; nothing will ever bind them."""
        for name in names:
            manifest = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": name},
                "spec": {
                    "accessModes": [mode],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
            await self.client.create(CLAIMS, self.name, manifest)

    async def apply(self, name: str = "qa", *, shards: int = 1, **spec: Any) -> str:
        """Create a job and return its uid."""
        manifest = job_object(name, namespace=self.name, shards=shards, **spec)
        await self.client.create(SYNTHETIC_DATA_JOBS, self.name, manifest)
        return str((await self.job(name))["metadata"]["uid"])

    async def job(self, name: str = "qa") -> dict[str, Any]:
        """Return the job as it is stored."""
        return await self.client.get(SYNTHETIC_DATA_JOBS, self.name, name)

    async def patch(self, name: str, spec: dict[str, Any]) -> None:
        """Change a job's spec."""
        await self.client.merge_patch(SYNTHETIC_DATA_JOBS, self.name, name, {"spec": spec})

    async def delete(self, name: str = "qa") -> None:
        """Delete a job; its children follow by garbage collection."""
        uid = (await self.job(name))["metadata"]["uid"]
        await self.client.delete(SYNTHETIC_DATA_JOBS, self.name, name, uid=uid, foreground=False)

    async def child(self, name: str) -> dict[str, Any] | None:
        """Return a Job, or None if there is none of that name."""
        try:
            return await self.client.get(JOBS, self.name, name)
        except errors.NotFoundError:
            return None

    async def objects(self, resource: Resource, selector: str = "") -> list[dict[str, Any]]:
        """Return every object of a kind."""
        return [
            raw
            async for raw in self.client.list_all(
                resource, self.name, selector=selector, page_size=100
            )
        ]

    async def pods(self, job: str) -> list[dict[str, Any]]:
        """Return the pods of a Job that have not ended and are not being deleted."""
        found = await self.objects(PODS, f"batch.kubernetes.io/job-name={job}")
        return [
            pod
            for pod in found
            if pod["status"]["phase"] in ("Pending", "Running")
            and "deletionTimestamp" not in pod["metadata"]
        ]

    async def pod(self, job: str, index: int = 0) -> str:
        """Wait for the live pod of one index of a Job, and return its name."""

        async def look() -> str | None:
            for pod in await self.pods(job):
                if pod["metadata"]["labels"][_INDEX_LABEL] == str(index):
                    return str(pod["metadata"]["name"])
            return None

        return await eventually(look, f"a pod of {job} with index {index}")

    async def play(
        self,
        job: str,
        index: int = 0,
        *,
        exit_code: int | None = ExitCode.OK,
        message: TerminationMessage | None = None,
        disrupted: bool = False,
        ip: str = "",
    ) -> str:
        """Act as the kubelet of a Job's pod: it runs (exit code None) or has ended so."""
        name = await self.pod(job, index)
        status = _pod_status(exit_code, message)
        if ip:
            status |= {"podIP": ip, "podIPs": [{"ip": ip}]}
        if disrupted:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "Evicted"}
            status["conditions"] = [condition]
        await self.set_pod_status(name, status)
        return name

    async def set_pod_status(self, name: str, status: dict[str, Any], uid: str = "") -> None:
        """Write a pod's status, as a kubelet does; the scheduler may write at the same time.

        With a `uid`, a pod of that name which is another one is left alone.
        """

        async def write() -> bool:
            raw = await self.client.get(PODS, self.name, name)
            if uid not in ("", raw["metadata"]["uid"]):
                return True
            raw["status"] |= status
            try:
                await self.client.replace(PODS, self.name, raw, "status")
            except errors.ConflictError:
                return False
            return True

        await eventually(write, f"the status of pod {name} is written")

    async def condition(self, kind: str, name: str = "qa") -> dict[str, Any]:
        """Return one of a job's conditions; an empty dict if it has none of that type."""
        conditions = ((await self.job(name)).get("status") or {}).get("conditions") or []
        return next((dict(item) for item in conditions if item["type"] == kind), {})

    async def until(
        self,
        kind: str,
        status: str,
        reason: str | None = None,
        *,
        name: str = "qa",
        seconds: float = _WAIT_SECONDS,
    ) -> dict[str, Any]:
        """Wait until one of a job's conditions says this, and return it."""

        async def look() -> dict[str, Any] | None:
            found = await self.condition(kind, name)
            fits = found.get("status") == status and reason in (None, found.get("reason"))
            return found if fits else None

        try:
            return await eventually(look, f"{kind}={status}/{reason}", seconds)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; status: {(await self.job(name)).get('status')}") from None

    async def events(self, kind: str = "SyntheticDataJob") -> list[tuple[str, str, str]]:
        """Return type, action and reason of the Events on objects of a kind, in no order."""
        return [
            (event["type"], event["action"], event["reason"])
            for event in await self.objects(EVENTS)
            if event["regarding"]["kind"] == kind
        ]

    async def until_told(self, *told: tuple[str, str, str]) -> None:
        """Wait for Events on the job: they are posted after the status that they are about."""

        async def look() -> bool:
            return set(told) <= set(await self.events())

        await eventually(look, f"Events: {told}")


def _pod_status(exit_code: int | None, message: TerminationMessage | None) -> dict[str, Any]:
    """Return the status of a pod that runs (None) or has ended with an exit code."""
    state: dict[str, Any] = {"running": {"startedAt": _now()}}
    phase = "Running"
    if exit_code is not None:
        phase = "Succeeded" if exit_code == 0 else "Failed"
        text = message.model_dump_json(by_alias=True, exclude_none=True) if message else ""
        state = {
            "terminated": {
                "exitCode": int(exit_code),
                "message": text,
                "startedAt": _now(),
                "finishedAt": _now(),
            }
        }
    container = {
        "name": labels.RUNNER_CONTAINER,
        "image": "kubesynth",
        "imageID": "kubesynth",
        "ready": exit_code is None,
        "restartCount": 0,
        "state": state,
    }
    return {"phase": phase, "containerStatuses": [container]}


class Kubelet:
    """Runs every pod of a namespace to its end, successfully, and counts how often each ran."""

    def __init__(self, namespace: Namespace, *, records: int) -> None:
        self._namespace = namespace
        self._records = records
        self.runs: Counter[str] = Counter()

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            for pod in await self._namespace.objects(PODS):
                starts = "deletionTimestamp" not in pod["metadata"]
                if starts and pod["status"]["phase"] == "Pending":
                    with contextlib.suppress(errors.NotFoundError):  # deleted a moment ago
                        await self._play(pod["metadata"])
            await asyncio.sleep(0.1)

    async def _play(self, metadata: dict[str, Any]) -> None:
        index = int(metadata["labels"][_INDEX_LABEL])
        phase = metadata["labels"][labels.PHASE_LABEL]
        message = {
            RunnerPhase.PLAN.value: plan_message(self._records),
            RunnerPhase.GENERATE.value: shard_message(self._records // 2),
        }.get(phase, run_message(RunnerPhase(phase), self._records))
        await self._namespace.set_pod_status(metadata["name"], _pod_status(0, message))
        self.runs[f"{phase}-{index}"] += 1


class _JobSink:
    """Stands where Kopf stands: tells the application of jobs that changed."""

    def __init__(self, app: Application) -> None:
        self._app = app

    def keep(self, namespace: str | None, names: Set[Name]) -> None:
        pass

    def upsert(self, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        key = JobKey(metadata["namespace"], metadata["name"])
        self._app.looked_at(raw)
        self._app.changed(key, metadata["resourceVersion"])

    def delete(self, raw: dict[str, Any]) -> None:
        self._app.deleted(JobKey(raw["metadata"]["namespace"], raw["metadata"]["name"]))


async def run_operator(client: KubeClient, settings: OperatorSettings, app: Application) -> None:
    """Run an operator until it dies, with a watch of our own in Kopf's place."""
    scope = Scope(SYNTHETIC_DATA_JOBS, settings.watched_namespaces[0], "")
    feedback = Feedback(lambda: None, Unreadable(Metrics()))
    watch = Watch(client, scope, _JobSink(app), feedback)
    await first_end([app.run(with_kopf=False), watch.run()])


@asynccontextmanager
async def running_operator(
    kubeconfig: str, settings: OperatorSettings
) -> AsyncIterator[Application]:
    """Run an operator in this process for the length of the block."""
    client = await KubeClient.connect(kubeconfig)
    app = Application(client, settings, Metrics())
    try:
        async with going_on(run_operator(client, settings, app)):
            await app.ready.wait()
            yield app
    finally:
        await client.close()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
