from __future__ import annotations

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import (
    Namespace,
    plan_message,
    run_message,
    running_operator,
    shard_message,
)
from kubesynth_operator.settings import OperatorSettings


async def test_sharded_job_plans_generates_finalizes_and_completes(
    api_server: ApiServer, namespace: Namespace
) -> None:
    settings = OperatorSettings(runner_image="kubesynth:test", namespaces=(namespace.name,))
    async with running_operator(str(api_server.kubeconfig), settings):
        await namespace.apply(shards=3)
        await namespace.until("Running", "True", "Planning")
        await namespace.play("qa-plan", message=plan_message())
        await namespace.until("Running", "True", "ShardsActive")
        for index in range(3):
            await namespace.play("qa-generate", index, message=shard_message())
        await namespace.until("Running", "True", "Finalizing")
        await namespace.play("qa-finalize", message=run_message())
        await namespace.until("Complete", "True", "AllShardsSucceeded")
    import json

    print(json.dumps((await namespace.job()), indent=1))
    print(await namespace.events())
