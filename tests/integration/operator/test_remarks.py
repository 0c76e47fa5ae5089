"""What users see of a job's pods, on a real control plane; plan is a real runner process."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

from kubesynth_api.runner_contract import Failures, RunnerPhase, TerminationMessage
from kubesynth_operator.kube.resources import EVENTS
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing import runs
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.cluster.paths import REPOSITORY
from kubesynth_testing.fake_llm import FakeLlm
from kubesynth_testing.operator_harness import (
    Namespace,
    eventually,
    run_message,
    running_operator,
    shard_message,
)
from kubesynth_testing.ports import free_port
from kubesynth_testing.runner_process import Pod, RunnerProcess

BAD = Failures(kind="BadInput", count=2, message="no text")


async def says(namespace: Namespace, text: str) -> None:
    async def look() -> bool:
        return text in (await namespace.condition("Running")).get("message", "")

    try:
        await eventually(look, f"Running says {text!r}", seconds=20)
    except AssertionError as exc:
        raise AssertionError(f"{exc}; status: {(await namespace.job())['status']}") from None


async def notes(namespace: Namespace) -> list[tuple[str, str]]:
    found = [(raw["reason"], raw["note"]) for raw in await namespace.objects(EVENTS)]
    return [each for each in found if each[0] in ("FilesLeftOut", "RecordsFailed")]


async def test_a_plan_pod_that_waits_for_a_model_is_quoted_and_goes_on(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings, tmp_path: Path
) -> None:
    port = free_port()
    topics = {"macroTopics": 2, "subtopics": 2, "questions": 2, "revisions": 0}
    fields: dict[str, Any] = {
        "models": [runs.a_model(f"http://127.0.0.1:{port}/v1")],
        "input": None,
        "pipeline": [{"openQA": topics}, {"answer": {}}],
    }
    pod = Pod(tmp_path / "pod", runs.a_run(tmp_path, **fields), RunnerPhase.PLAN)
    quick = dataclasses.replace(settings, runner_port=pod.port)
    async with running_operator(str(api_server.kubeconfig), quick), RunnerProcess(pod) as plan:
        await namespace.apply(shards=2, **fields)
        await pod.progress()
        await namespace.play("qa-plan", exit_code=None, ip="127.0.0.1")
        await says(namespace, "It says: waiting for generator: ")
        message = (await namespace.condition("Running"))["message"]
        shown = message.replace(f"127.0.0.1:{port}", "llm:8000")
        page = REPOSITORY / "docs" / "troubleshooting" / "model-does-not-answer.md"
        assert f"Message:  {shown}\n" in page.read_text()
        version = (await namespace.job())["metadata"]["resourceVersion"]
        await asyncio.sleep(3)
        job = await namespace.job()
        assert job["metadata"]["resourceVersion"] == version, "the same words are written once"
        async with FakeLlm(port=port):
            assert await plan.exit_code() == 0
        last = TerminationMessage.model_validate(pod.message())
        await namespace.play("qa-plan", message=last)
        await namespace.until("Running", "True", "ShardsActive")
        assert "waiting" not in (await namespace.condition("Running"))["message"]


async def test_files_left_out_and_failed_records_reach_status_and_events(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings, tmp_path: Path
) -> None:
    runs.write_documents(tmp_path / "in", 4)
    (tmp_path / "in" / "more.csv").write_text("text\none\n")
    spec = runs.a_run(tmp_path, input={"uri": f"file://{tmp_path}/in"}, shards={"count": 2})
    pod = Pod(tmp_path / "pod", spec, RunnerPhase.PLAN)
    async with running_operator(str(api_server.kubeconfig), settings):
        await namespace.apply(shards=2)
        async with RunnerProcess(pod) as plan:
            assert await plan.exit_code() == 0
        message = TerminationMessage.model_validate(pod.message())
        await namespace.play("qa-plan", message=message)
        await namespace.until("Running", "True", "ShardsActive")
        left_out = (await namespace.job())["status"]["filesLeftOut"]
        assert left_out.startswith("1 .csv (.csv is not read; convert it")
        for index in range(2):
            words = shard_message().model_copy(update={"failures": (BAD,)})
            await namespace.play("qa-generate", index, message=words)
        await namespace.until("Running", "True", "Finalizing")
        last = run_message(done=4)
        assert last.totals is not None
        records = last.totals.records.model_copy(update={"failed": 4})
        totals = last.totals.model_copy(update={"records": records})
        found = (BAD.model_copy(update={"count": 4}),)
        last = last.model_copy(update={"totals": totals, "failures": found})
        await namespace.play("qa-finalize", message=last)
        complete = await namespace.until("Complete", "True")
    assert complete["message"].endswith(
        "4 records failed, most often BadInput (4): no text; errors/ in the output has all of them."
    )
    status = (await namespace.job())["status"]
    assert status["failures"] == [{"kind": "BadInput", "count": 4, "message": "no text"}]

    async def both() -> bool:
        return sorted(reason for reason, _ in await notes(namespace)) == [
            "FilesLeftOut",
            "RecordsFailed",
        ]

    await eventually(both, "each was told in one Event")
