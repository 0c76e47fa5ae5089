"""The contract of exit codes, row by row, as the real Job controller reads podFailurePolicy.

No kubelet runs the pods: the test sets how each one ended. What the Job controller makes of it is
real: replacement pods, failed indexes, failed Jobs.
"""

from __future__ import annotations

import asyncio
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
    namespace: Namespace,
    slot: RunnerPhase,
    *,
    backoff_limit: int = 0,
    shards: int = SHARDS,
    name: str = "qa",
) -> str:
    """Create the operator's own Job, owned by a job that no operator looks at."""
    policy = {"backoffLimitPerShard": backoff_limit, "maxFailedShards": shards}
    await namespace.apply(name, shards=shards, failurePolicy=policy)
    raw = await namespace.job(name)
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


async def replaced_for_nothing(
    namespace: Namespace, name: str, code: int, *, disrupted: bool
) -> None:
    """Let a pod of a Job without any retry end so; it must be replaced all the same."""
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=0, shards=2, name=name)
    ended = await namespace.play(job, 1, exit_code=code, disrupted=disrupted)
    assert await namespace.pod(job, 1) != ended
    status = await settled(namespace, job, active=2)
    assert not status.get("failedIndexes")
    assert not status.get("conditions")


async def tried_again_once(namespace: Namespace, name: str) -> None:
    """Let a pod of a Job with one retry ask for it twice."""
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=1, shards=2, name=name)
    ended = await namespace.play(job, 1, exit_code=ExitCode.RETRY)
    assert await namespace.pod(job, 1) != ended
    await namespace.play(job, 1, exit_code=ExitCode.RETRY)
    await settled(namespace, job, failedIndexes="1")


async def test_what_counts_for_nothing_is_replaced_and_what_counts_is_counted(
    namespace: Namespace,
) -> None:
    """Several rows at once: the Job controller waits 10 s before every replacement."""
    await asyncio.gather(
        replaced_for_nothing(namespace, "sigterm", ExitCode.CHECKPOINTED, disrupted=False),
        replaced_for_nothing(namespace, "evicted", KILLED, disrupted=True),
        # A disruption goes before every exit code, also before the one that fails the Job.
        replaced_for_nothing(namespace, "both", ExitCode.CONFIGURATION, disrupted=True),
        tried_again_once(namespace, "retry"),
    )


@pytest.mark.parametrize("code", [ExitCode.RETRY, 1, KILLED])
async def test_every_other_failure_counts_against_the_backoff_limit_of_its_index(
    namespace: Namespace, code: int
) -> None:
    job = await create(namespace, RunnerPhase.GENERATE, backoff_limit=0, shards=2)
    await namespace.play(job, 1, exit_code=code)
    # Counted one write after the index is given up.
    await settled(namespace, job, failedIndexes="1", failed=1)
