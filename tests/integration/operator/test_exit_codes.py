"""The contract of exit codes, row by row, as the real Job controller reads podFailurePolicy.

No kubelet runs the pods: the test sets how each one ended. What the Job controller makes of it is
real: replacement pods, failed indexes, failed Jobs.
"""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.runner_contract import ExitCode, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.kube.resources import JOBS
from kubesynth_operator.resources import runner_job
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.operator_harness import Namespace, eventually

SHARDS = 3
KILLED = 137


async def create(
    namespace: Namespace, slot: RunnerPhase, *, backoff_limit: int = 0, shards: int = SHARDS
) -> str:
    """Create the operator's own Job, owned by a job that no operator looks at."""
    policy = {"backoffLimitPerShard": backoff_limit, "maxFailedShards": shards}
    await namespace.apply(shards=shards, failurePolicy=policy)
    raw = await namespace.job()
    manifest = runner_job.build(
        wire.parse_job(raw),
        slot,
        OperatorSettings(runner_image="kubesynth:test"),
        run_config_name="qa-run-0123456789",
    )
    await namespace.client.create(JOBS, namespace.name, manifest)
    return str(manifest["metadata"]["name"])


async def settled(namespace: Namespace, job: str, **fields: Any) -> dict[str, Any]:
    """Wait until the Job's status has these fields, and return it."""

    async def look() -> dict[str, Any] | None:
        status: dict[str, Any] = (await namespace.child(job) or {}).get("status") or {}
        return status if all(status.get(name) == value for name, value in fields.items()) else None

    return await eventually(look, f"{job} has {fields}")


async def failed_condition(namespace: Namespace, job: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        status = (await namespace.child(job) or {}).get("status") or {}
        found = [item for item in status.get("conditions") or () if item["type"] == "Failed"]
        return dict(found[0]) if found else None

    return await eventually(look, f"{job} has failed")


@pytest.mark.parametrize("slot", [RunnerPhase.PLAN, RunnerPhase.GENERATE, RunnerPhase.FINALIZE])
async def test_64_fails_the_whole_job_at_once(namespace: Namespace, slot: RunnerPhase) -> None:
    job = await create(namespace, slot, backoff_limit=3)
    await namespace.play(job, exit_code=ExitCode.CONFIGURATION)
    failed = await failed_condition(namespace, job)
    assert failed["reason"] == "PodFailurePolicy"
    assert "exit code 64" in failed["message"]


async def test_65_fails_its_index_without_a_retry_and_spares_the_others(
    namespace: Namespace,
) -> None:
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=3)
    await namespace.play(job, 1, exit_code=ExitCode.POISONED_SHARD)
    await settled(namespace, job, failedIndexes="1")
    await namespace.play(job, 0)
    await namespace.play(job, 2)
    await settled(namespace, job, completedIndexes="0,2", failedIndexes="1")
    failed = await failed_condition(namespace, job)
    assert failed["reason"] == "FailedIndexes"


async def test_65_fails_a_job_of_one_pod(namespace: Namespace) -> None:
    job = await create(namespace, RunnerPhase.PLAN, backoff_limit=3)
    await namespace.play(job, exit_code=ExitCode.POISONED_SHARD)
    failed = await failed_condition(namespace, job)
    assert failed["reason"] == "MaxFailedIndexesExceeded"


@pytest.mark.parametrize("disrupted", [False, True], ids=["143", "DisruptionTarget"])
async def test_a_checkpointed_or_disrupted_pod_is_replaced_and_counts_for_nothing(
    namespace: Namespace, disrupted: bool
) -> None:
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=0, shards=2)
    code = KILLED if disrupted else ExitCode.CHECKPOINTED
    for _ in range(2):
        name = await namespace.play(job, 1, exit_code=code, disrupted=disrupted)
        replacement = await namespace.pod(job, 1)
        assert replacement != name
    status = await settled(namespace, job, active=2)
    assert not status.get("failedIndexes")
    assert not status.get("conditions")


async def test_a_disruption_goes_before_every_exit_code(namespace: Namespace) -> None:
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=0, shards=2)
    await namespace.play(job, 0, exit_code=ExitCode.CONFIGURATION, disrupted=True)
    await namespace.pod(job, 0)
    assert not (await settled(namespace, job, active=2)).get("conditions")


@pytest.mark.parametrize("code", [ExitCode.RETRY, 1, KILLED])
async def test_every_other_failure_counts_against_the_backoff_limit_of_its_index(
    namespace: Namespace, code: int
) -> None:
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=0, shards=2)
    await namespace.play(job, 1, exit_code=code)
    status = await settled(namespace, job, failedIndexes="1")
    assert status["failed"] == 1


async def test_a_failure_within_the_limit_is_tried_again(namespace: Namespace) -> None:
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=1, shards=2)
    name = await namespace.play(job, 1, exit_code=ExitCode.RETRY)
    assert await namespace.pod(job, 1) != name  # after the Job controller's 10 s
    await namespace.play(job, 1, exit_code=ExitCode.RETRY)
    await settled(namespace, job, failedIndexes="1")
