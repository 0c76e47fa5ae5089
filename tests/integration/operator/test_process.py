"""The real process: Kopf's watch, permissions of a Role, probes, signals and leader election."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.kube.resources import LEASES
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, eventually, run_message
from kubesynth_testing.operator_process import operator_process, role_kubeconfig


async def test_the_process_works_under_a_role_alone_and_ends_on_sigterm(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    with operator_process(kubeconfig, namespace.name, tmp_path) as process:
        await process.until_ready()
        await namespace.apply()
        before = (await namespace.job())["metadata"]
        await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
        await namespace.until("Complete", "True")
        metadata = (await namespace.job())["metadata"]
        for field in ("annotations", "finalizers", "labels"):
            assert metadata.get(field) == before.get(field), "Kopf wrote to the user's object"
        assert await process.answers("/healthz", 200)

        async def counted() -> str | None:
            metrics = await process.body("/metrics")
            return metrics if 'kubesynth_job_phase{phase="Complete"} 1.0' in metrics else None

        # The status is written first.
        metrics = await eventually(counted, "the job is counted as complete")
        assert 'kubesynth_status_writes_total{cause="transition"}' in metrics
        await namespace.delete()
        process.popen.send_signal(signal.SIGTERM)
        assert await process.until_exit() == 0
        log = process.log.read_text()
        assert "Traceback" not in log, log[-3000:]
        assert "orbidden" not in log, log[-3000:]
    assert all(json.loads(line)["level"] for line in log.splitlines()), "logs are JSON"


async def test_a_namespace_without_a_role_stops_no_other(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    # It is the first one, and does not even exist: so it looks when a namespace was deleted.
    both = {"KUBESYNTH_NAMESPACES": f"gone,{namespace.name}"}
    with operator_process(kubeconfig, namespace.name, tmp_path, **both) as process:
        await process.until_ready()
        await namespace.apply()
        await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
        await namespace.until("Complete", "True")
        assert await process.answers("/healthz", 200)
        denied = 'kubesynth_watch_denied{namespace="gone",resource="pods"} 1.0'
        assert denied in await process.body("/metrics")


async def test_a_killed_process_is_followed_by_one_that_goes_on(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    with operator_process(kubeconfig, namespace.name, tmp_path) as process:
        await process.until_ready()
        await namespace.apply()
        await namespace.until("Running", "True", "ShardsActive")
        process.popen.kill()
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    with operator_process(kubeconfig, namespace.name, tmp_path) as process:
        await namespace.until("Complete", "True")


async def test_a_standby_ends_on_sigterm_without_having_led(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "a-release"},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 3600},
    }
    await namespace.client.create(LEASES, namespace.name, lease)
    election = {"KUBESYNTH_LEADER_ELECTION": "true", "KUBESYNTH_LEASE_NAME": "a-release"}
    with operator_process(kubeconfig, namespace.name, tmp_path, **election) as process:
        await process.until_ready()
        process.popen.send_signal(signal.SIGTERM)
        assert await process.until_exit() == 0
    [found] = await namespace.objects(LEASES)
    assert found["spec"]["holderIdentity"] == "somebody"


async def test_one_that_may_not_ask_for_the_lease_is_not_ready(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    """It would look as if it stood by, with nobody at work."""
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    election = {"KUBESYNTH_LEADER_ELECTION": "true", "KUBESYNTH_OPERATOR_NAMESPACE": "default"}
    with operator_process(kubeconfig, namespace.name, tmp_path, **election) as process:

        async def has_asked() -> bool:
            return "lease not taken" in process.log.read_text()

        await eventually(has_asked, "it asks for the Lease")
        assert await process.answers("/readyz", 503)
        assert "cannot get resource" in process.log.read_text()


async def test_of_two_replicas_one_works_and_the_other_takes_over(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    election = {"KUBESYNTH_LEADER_ELECTION": "true"}

    async def holder() -> str:
        lease = await namespace.client.get(LEASES, namespace.name, "kubesynth-operator")
        return str(lease["spec"]["holderIdentity"])

    async def leads(name: str) -> bool:
        return await holder() == name

    with operator_process(kubeconfig, namespace.name, tmp_path, "first", **election) as first:
        await first.until_ready()

        async def first_leads() -> bool:
            return bool(await namespace.objects(LEASES)) and await leads("first")

        await eventually(first_leads, "the first replica leads")
        with operator_process(kubeconfig, namespace.name, tmp_path, "second", **election) as second:
            await second.until_ready()
            await asyncio.sleep(1)
            assert "kubesynth_leader 0.0" in await second.body("/metrics")
            first.popen.send_signal(signal.SIGTERM)
            assert await first.until_exit() == 0

            async def second_leads() -> bool:
                return await leads("second")

            await eventually(second_leads, "the second replica takes over", seconds=10)
            await namespace.apply()
            await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
            await namespace.until("Complete", "True")
