"""Pods that somebody made by hand, in a namespace where the operator has other work to do."""

from __future__ import annotations

import pytest

from kubesynth_api import labels
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.kube.resources import PODS
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, run_message, running_operator

INDEX = "batch.kubernetes.io/job-completion-index"
LAST_WORDS = {
    "brackets": '{"a":' + "[" * 3000,
    "dollars": '{"phase":"generate","totals":{"costUSD":1e999}}',
    "big-dollars": '{"phase":"generate","totals":{"costUSD":1e307}}',
}


async def make_pod(namespace: Namespace, name: str, index: str, last_words: str = "") -> None:
    own = {
        labels.MANAGED_BY_LABEL: labels.MANAGED_BY_VALUE,
        labels.PHASE_LABEL: RunnerPhase.GENERATE.value,
        INDEX: index,
    }
    container = {
        "name": labels.RUNNER_CONTAINER,
        "image": "none",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": own},
        "spec": {"containers": [container]},
    }
    await namespace.client.create(PODS, namespace.name, manifest)
    ended = {"terminated": {"exitCode": 1, "message": last_words}}
    status = {
        "name": labels.RUNNER_CONTAINER,
        "image": "none",
        "imageID": "none",
        "ready": False,
        "restartCount": 0,
        "state": ended,
    }
    await namespace.set_pod_status(name, {"phase": "Failed", "containerStatuses": [status]})


@pytest.mark.parametrize("when", ["in-the-first-list", "while-it-watches"])
async def test_odd_pods_hold_up_nobody_else_s_job(
    api_server: ApiServer, namespace: Namespace, settings: OperatorSettings, when: str
) -> None:
    async def make_them() -> None:
        await make_pod(namespace, "no-number", "x")
        for name, words in LAST_WORDS.items():
            await make_pod(namespace, name, "0", words)

    if when == "in-the-first-list":
        await make_them()
    async with running_operator(str(api_server.kubeconfig), settings):
        await namespace.apply()
        await namespace.until("Running", "True", "ShardsActive")
        if when == "while-it-watches":
            await make_them()
        await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
        await namespace.until("Complete", "True", seconds=30)
