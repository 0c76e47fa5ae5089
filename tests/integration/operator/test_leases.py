"""One budget over eight real runner processes, leased by the real operator on a real API server.

Only the kubelet is acted: pods are processes of this machine, at addresses of their own.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api import runner_contract
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase, TerminationMessage
from kubesynth_operator.app import first_end
from kubesynth_operator.kube.resources import PODS, SECRETS
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing import runs
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.fake_llm import FakeLlm, Faults
from kubesynth_testing.operator_harness import Namespace, running_operator
from kubesynth_testing.ports import free_port
from kubesynth_testing.relay import Relay
from kubesynth_testing.runner_process import Nursery, Pod

SHARDS = 8
DOCUMENTS = 80
CONCURRENCY = 16
PER_SECOND = 60
LARGEST_CALL_TOKENS = 600


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as running:
        yield running


class CountingLlm(FakeLlm):
    """Counts what arrives: when, how many at once, and the tokens of the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[float] = []
        self.most_at_once = 0
        self._at_once = 0

    async def _answer(self, request: Any, raw: bytes) -> Any:
        if b"Document" not in raw:  # the probe of a pod that starts
            return await super()._answer(request, raw)
        self.arrivals.append(time.monotonic())
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await super()._answer(request, raw)
        finally:
            self._at_once -= 1

    def most_in_a_second(self) -> int:
        """Return the greatest number of requests within one second."""
        return max(
            sum(1 for other in self.arrivals if start <= other < start + 1.0)
            for start in self.arrivals
        )


def write_input(folder: Path) -> None:
    """Write documents of which the second half takes many more tokens than the first."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(DOCUMENTS):
        text = f"Document {number} is about mills." + " Mills grind." * (100 if number >= 40 else 1)
        lines.append(json.dumps({"id": f"doc-{number}", "text": text}))
    (folder / "docs.jsonl").write_text("\n".join(lines) + "\n")


@dataclasses.dataclass
class Kubelet:
    """Runs the pods of a namespace as processes."""

    namespace: Namespace
    spec: RunSpec
    nursery: Nursery
    folder: Path
    port: int
    # The nursery tells process ids in the order of starts.
    starting: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Start every pod that appears, until cancelled."""
        known: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            while True:
                for raw in await self.namespace.objects(PODS):
                    name = raw["metadata"]["name"]
                    if name not in known and "deletionTimestamp" not in raw["metadata"]:
                        known.add(name)
                        tasks.create_task(self._play(raw, f"127.0.9.{len(known)}"))
                await asyncio.sleep(0.1)

    async def _play(self, raw: dict[str, Any], host: str) -> None:
        name, labels = raw["metadata"]["name"], raw["metadata"]["labels"]
        index = int(labels["batch.kubernetes.io/job-completion-index"])
        phase = RunnerPhase(labels["kubesynth.io/phase"])
        pod = Pod(self.folder / name, self.spec, phase, index)
        pod.environment |= await self._environment(raw)
        async with Relay(pod.port, host, self.port):
            async with self.starting:
                pid = await self.nursery.start(pod)
            running = {"phase": "Running", "podIP": host, "podIPs": [{"ip": host}]}
            await self.namespace.set_pod_status(name, running)
            end = asyncio.create_task(self.nursery.exit_code(pid))
            while not end.done():
                await asyncio.wait({end}, timeout=0.2)
                if not await self._exists(name):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
        if await self._exists(name):
            message = TerminationMessage.model_validate(pod.message())
            await self._end(name, end.result(), message)

    async def _environment(self, raw: dict[str, Any]) -> dict[str, str]:
        env = {item["name"]: item for item in raw["spec"]["containers"][0]["env"]}
        found = {
            name: env[name]["value"]
            for name in (
                runner_contract.ENV_SHARE,
                runner_contract.ENV_PARTIAL,
                runner_contract.ENV_OUTCOME,
            )
            if name in env
        }
        if runner_contract.ENV_LEASE_TOKEN in env:
            reference = env[runner_contract.ENV_LEASE_TOKEN]["valueFrom"]["secretKeyRef"]
            secret = await self.namespace.client.get(
                SECRETS, self.namespace.name, reference["name"]
            )
            token = base64.b64decode(secret["data"][reference["key"]]).decode()
            found[runner_contract.ENV_LEASE_TOKEN] = token
        return found

    async def _exists(self, name: str) -> bool:
        found = await self.namespace.objects(PODS)
        return any(
            raw["metadata"]["name"] == name and "deletionTimestamp" not in raw["metadata"]
            for raw in found
        )

    async def _end(self, name: str, code: int, message: TerminationMessage) -> None:
        state = {
            "exitCode": code,
            "message": message.model_dump_json(by_alias=True, exclude_none=True),
        }
        container = {
            "name": "runner",
            "image": "kubesynth",
            "imageID": "kubesynth",
            "ready": False,
            "restartCount": 0,
            "state": {"terminated": state},
        }
        phase = "Failed" if code else "Succeeded"
        await self.namespace.set_pod_status(
            name, {"phase": phase, "containerStatuses": [container]}
        )


def the_spec(folder: Path, url: str, budget: dict[str, Any]) -> dict[str, Any]:
    limits = {"concurrency": CONCURRENCY, "requestsPerMinute": 60 * PER_SECOND}
    return {
        "models": [runs.a_model(url) | {"limits": limits}],
        "shards": {"count": SHARDS},
        "budget": budget,
    }


async def tokens_of_everything(folder: Path, server: FakeLlm, nursery: Nursery) -> int:
    """Return what the whole input takes, by running it once without limits."""
    spec = runs.a_run(
        folder / "reference",
        models=[runs.a_model(server.url, concurrency=32)],
        input={"uri": f"file://{folder}/in/*.jsonl", "idColumn": "id"},
    )
    pod = Pod(folder / "reference-pod", spec)
    assert await nursery.run(pod) == 0
    used = pod.message()["totals"]["tokens"]
    return int(used["prompt"] + used["completion"])


async def ended(namespace: Namespace, reason: str) -> None:
    await namespace.until("Complete", "True", reason, seconds=90)


@pytest.mark.parametrize(
    "case", [(1.1, "AllShardsSucceeded"), (0.5, "BudgetSpent")], ids=["enough", "spent"]
)
async def test_eight_pods_share_one_budget(
    api_server: ApiServer,
    namespace: Namespace,
    settings: OperatorSettings,
    nursery: Nursery,
    tmp_path: Path,
    case: tuple[float, str],
) -> None:
    part, reason = case
    write_input(tmp_path / "in")
    limits = dataclasses.replace(settings.limits, lease_seconds=0.3)
    operator = dataclasses.replace(settings, runner_port=free_port(), limits=limits)
    async with CountingLlm() as server:
        needed = await tokens_of_everything(tmp_path, server, nursery)
        server.set_faults(Faults(latency_seconds=0.2))
        server.arrivals.clear()
        server.most_at_once = 0
        fields = the_spec(tmp_path, server.url, {"tokens": int(needed * part)})
        spec = runs.a_run(
            tmp_path / "run",
            input={"uri": f"file://{tmp_path}/in/*.jsonl", "idColumn": "id"},
            **fields,
        )
        kubelet = Kubelet(namespace, spec, nursery, tmp_path / "pods", operator.runner_port)
        async with running_operator(str(api_server.kubeconfig), operator):
            uid = await namespace.apply(**{**fields, "shards": SHARDS})
            kubelet.spec = spec.model_copy(update={"uid": uid})
            await first_end([kubelet.run(), ended(namespace, reason)])
        assert server.most_at_once <= CONCURRENCY
        assert server.most_in_a_second() <= PER_SECOND + 2 * SHARDS
    status = (await namespace.job())["status"]
    used = status["progress"]["tokens"]["prompt"] + status["progress"]["tokens"]["completion"]
    assert used <= needed * part + CONCURRENCY * LARGEST_CALL_TOKENS
    rows = len(runs.read_rows(tmp_path / "run" / "out"))
    if reason == "BudgetSpent":
        assert used >= needed * part
        assert 0 < rows < 2 * DOCUMENTS
        assert not (tmp_path / "run" / "out" / "_SUCCESS").exists()
    else:
        # An even share would not have been enough for the shards with the long documents.
        assert rows == 2 * DOCUMENTS
