"""Jobs from apply to their end, on a real control plane; the test plays the kubelet."""

from __future__ import annotations

import json

import pytest

from kubesynth_api.runner_contract import ExitCode, RunnerPhase
from kubesynth_api.v1alpha1.runner_pods import RunnerPods
from kubesynth_operator.app import Application
from kubesynth_operator.kube.resources import CONFIG_MAPS, JOBS, NETWORK_POLICIES, PODS
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.builders import job_object
from kubesynth_testing.operator_harness import (
    Namespace,
    error_message,
    eventually,
    plan_message,
    run_message,
    running_operator,
    shard_message,
)


async def through_plan(namespace: Namespace) -> None:
    await namespace.apply(shards=3)
    await namespace.play("qa-plan", message=plan_message(6))
    await namespace.until("Running", "True", "ShardsActive")


async def through_shards(namespace: Namespace) -> None:
    await through_plan(namespace)
    for index in range(3):
        await namespace.play("qa-generate", index, message=shard_message(2))
    await namespace.until("Running", "True", "Finalizing")


async def test_a_sharded_job_plans_generates_finalizes_and_completes(
    operator: Application, namespace: Namespace
) -> None:
    await through_shards(namespace)
    await namespace.play("qa-finalize", message=run_message(done=6))
    await namespace.until("Complete", "True", "AllShardsSucceeded")
    status = (await namespace.job())["status"]
    assert (status["phase"], status["summary"]) == ("Complete", "3/3")
    assert status["progress"]["records"] == {
        "in": 6,
        "done": 6,
        "accepted": 12,
        "filtered": 0,
        "failed": 0,
    }
    assert status["estimate"] == {"calls": 12, "rows": 12}
    assert status["outputs"]["manifest"] == "pvc://datasets/qa/manifest.json"
    assert status["observedGeneration"] == 1
    await namespace.until_told(
        ("Normal", "Accepted", "Valid"),
        ("Normal", "Running", "Planning"),
        ("Normal", "Running", "ShardsActive"),
        ("Normal", "Running", "Finalizing"),
        ("Normal", "Running", "Finished"),
        ("Normal", "Complete", "AllShardsSucceeded"),
    )


async def test_a_job_of_one_shard_is_one_pod(operator: Application, namespace: Namespace) -> None:
    await namespace.apply()
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")
    assert [job["metadata"]["name"] for job in await namespace.objects(JOBS)] == ["qa-generate"]


async def test_the_user_s_object_is_never_written_but_for_its_status(
    operator: Application, namespace: Namespace, api_server: ApiServer
) -> None:
    await namespace.apply()
    before = await namespace.job()
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")
    after = await namespace.job()
    assert after["spec"] == before["spec"]
    for field in ("labels", "annotations", "finalizers", "generation"):
        assert after["metadata"].get(field) == before["metadata"].get(field)
    managers = {
        (entry["manager"], entry.get("subresource"))
        for entry in after["metadata"]["managedFields"]
        if "f:status" in entry["fieldsV1"]
    }
    assert managers == {("kubesynth-operator", "status")}
    manifest = json.dumps(job_object(namespace=namespace.name))
    api_server.kubectl("diff", "-f", "-", stdin=manifest)  # fails if there is a difference
    api_server.kubectl(
        *("wait", "-n", namespace.name, "sdj/qa", "--for=condition=Complete", "--timeout=5s")
    )


async def test_deleting_a_job_leaves_nothing_behind(
    operator: Application, namespace: Namespace
) -> None:
    await through_plan(namespace)
    assert await namespace.objects(NETWORK_POLICIES)
    await namespace.delete()

    async def all_gone() -> bool:
        left = [await namespace.objects(kind) for kind in (JOBS, PODS, NETWORK_POLICIES)]
        configs = await namespace.objects(
            CONFIG_MAPS, "app.kubernetes.io/managed-by=kubesynth-operator"
        )
        return not any(left) and not configs

    await eventually(all_gone, "every child is gone")


async def test_a_failed_shard_fails_the_job_with_a_partial_report(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(shards=3, failurePolicy={"backoffLimitPerShard": 0})
    await namespace.play("qa-plan", message=plan_message(6))
    message = error_message(RunnerPhase.GENERATE, "OutputUnwritable", "No space left on device")
    await namespace.play("qa-generate", 1, exit_code=ExitCode.POISONED_SHARD, message=message)
    await finish_deleted_pods(namespace)
    await namespace.until("Running", "True", "Finalizing")
    finalize = await namespace.child("qa-finalize")
    assert finalize is not None
    env = finalize["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "KUBESYNTH_PARTIAL", "value": "true"} in env
    await namespace.play("qa-finalize", message=run_message(done=4))
    failed = await namespace.until("Failed", "True", "ShardBackoffExceeded")
    assert "No space left on device" in failed["message"]
    status = (await namespace.job())["status"]
    assert status["progress"]["records"]["done"] == 4
    assert status["shards"]["failedIndexes"] == "1"
    await namespace.until_told(("Warning", "Failed", "ShardBackoffExceeded"))


async def finish_deleted_pods(namespace: Namespace) -> None:
    """Let pods that the Job controller deletes go, as their kubelets would."""

    async def none_left() -> bool:
        pods = await namespace.objects(PODS, "batch.kubernetes.io/job-name=qa-generate")
        return not [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]

    await eventually(none_left, "pods without a node are deleted at once")


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_configuration_error_fails_the_job_at_once(
    operator: Application, namespace: Namespace, shards: int
) -> None:
    await namespace.apply(shards=shards)
    job = "qa-plan" if shards > 1 else "qa-generate"
    message = error_message(RunnerPhase.PLAN, "OutputConflict", "holds the run of job 7f3a")
    await namespace.play(job, exit_code=ExitCode.CONFIGURATION, message=message)
    await namespace.until("Failed", "True", "OutputConflict")
    assert (await namespace.condition("Accepted"))["reason"] == "OutputConflict"
    assert (await namespace.condition("Stalled"))["status"] == "True"


async def test_totals_survive_the_deletion_of_every_finished_pod_while_no_operator_runs(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings
) -> None:
    async with running_operator(str(api_server.kubeconfig), settings):
        await through_shards(namespace)
    await namespace.play("qa-finalize", message=run_message(done=6))

    async def finalized() -> bool:
        job = await namespace.child("qa-finalize")
        conditions = ((job or {}).get("status") or {}).get("conditions") or []
        return any(item["type"] == "Complete" for item in conditions)

    await eventually(finalized, "the finalize Job completes")
    for pod in await namespace.objects(PODS):
        metadata = pod["metadata"]
        await namespace.client.delete(
            PODS, namespace.name, metadata["name"], uid=metadata["uid"], foreground=False
        )
    async with running_operator(str(api_server.kubeconfig), settings):
        await namespace.play("qa-report", message=run_message(RunnerPhase.REPORT, done=6))
        await namespace.until("Complete", "True", "AllShardsSucceeded")
    status = (await namespace.job())["status"]
    assert status["progress"]["records"]["done"] == 6
    assert status["summary"] == "3/3"


async def test_ttl_deletes_the_job_after_its_end(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(cleanup={"ttlSecondsAfterFinished": 2})
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")

    async def gone() -> bool:
        return not await namespace.objects(JOBS)

    await eventually(gone, "the job and its children are gone")


async def test_an_upgraded_operator_leaves_running_jobs_as_they_are(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings
) -> None:
    async with running_operator(str(api_server.kubeconfig), settings):
        await through_plan(namespace)
    before = await namespace.child("qa-generate")
    newer = OperatorSettings(
        runner_image="kubesynth:newer",
        runner_defaults=RunnerPods(node_selector={"pool": "new"}),
        namespaces=settings.namespaces,
    )
    async with running_operator(str(api_server.kubeconfig), newer):
        for index in range(3):
            await namespace.play("qa-generate", index, message=shard_message())
        await namespace.play("qa-finalize", message=run_message())
        await namespace.until("Complete", "True")
    after = await namespace.child("qa-generate")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["template"] == before["spec"]["template"]
    finalize = await namespace.child("qa-finalize")
    assert finalize is not None
    assert finalize["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "new"}
