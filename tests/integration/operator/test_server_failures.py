"""What goes wrong with model servers: every page of docs/troubleshooting.

The control plane is real and has no nodes; the test writes what scheduler and kubelet would. On a
real cluster a scheduler, a missing image, a crash loop, a kill for memory and the death of a server
are in tests/cluster.
"""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_testing.operator_harness import Namespace, eventually, run_message
from kubesynth_testing.server_harness import Servers, inline

OWN = "qa-generator"
LOOP = ("CrashLoopBackOff", "back-off 5m0s restarting failed container")
NO_IMAGE = 'Back-off pulling image "nvcr.io/nim/meta/llama:9": 401 Unauthorized'
GATED = (
    "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model "
    "meta-llama/Llama-3.1-8B-Instruct is restricted. You must have access to it."
)
FULL = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 896.00 MiB."


async def until_warned(namespace: Namespace, reason: str) -> None:
    async def look() -> bool:
        return ("Warning", "Ready", reason) in await namespace.events("ModelServer")

    await eventually(look, f"an Event on the server warns of {reason}")


async def test_no_gpu_is_free(servers: Servers, namespace: Namespace) -> None:
    await namespace.apply(models=inline(startupTimeoutSeconds=1))
    found = await namespace.until("ModelsReady", "False", "Unschedulable")
    assert "no nodes available to schedule pods" in found["message"], "the scheduler's own words"
    await until_warned(namespace, "Unschedulable")
    assert not await namespace.condition("Failed"), "waiting for a GPU has no timeout"


async def test_the_image_is_missing(servers: Servers, namespace: Namespace) -> None:
    await namespace.apply(models=inline())
    await servers.play(OWN, waiting=("ImagePullBackOff", NO_IMAGE))
    found = await namespace.until("ModelsReady", "False", "ImagePullFailed")
    assert NO_IMAGE in found["message"]
    await until_warned(namespace, "ImagePullFailed")
    # It can be mended under way.
    await servers.play(OWN, ready=True)
    await namespace.until("ModelsReady", "True", "AllReady")


async def test_the_model_is_gated(servers: Servers, namespace: Namespace) -> None:
    await namespace.apply(models=inline(startupTimeoutSeconds=3))
    await servers.play(OWN, waiting=LOOP, restarts=3, last_log=f"loading\n{GATED}\n")
    looping = await namespace.until("ModelsReady", "False", "CrashLooping")
    await until_warned(namespace, "CrashLooping")
    failed = await namespace.until("Failed", "True", "ModelStartupFailed")
    for message in (looping["message"], failed["message"]):
        assert GATED in message
    await until_warned(namespace, "StartupTimeout")
    assert (await namespace.condition("ModelsReady"))["reason"] == "StartupTimeout"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        pytest.param({"last_log": FULL}, FULL, id="gpu-memory"),
        pytest.param(
            {"last_exit": (137, "OOMKilled")}, "exit code 137, OOMKilled", id="container-memory"
        ),
        pytest.param({"last_exit": (137, "Error")}, "exit code 137, killed", id="reason-lost"),
    ],
)
async def test_out_of_memory_while_loading(
    servers: Servers, namespace: Namespace, step: dict[str, Any], words: str
) -> None:
    await namespace.apply(models=inline())
    await servers.play(OWN, waiting=LOOP, restarts=3, **step)
    looping = await namespace.until("ModelsReady", "False", "CrashLooping")
    assert words in looping["message"]
    await until_warned(namespace, "CrashLooping")


async def test_the_server_dies_while_a_job_runs(servers: Servers, namespace: Namespace) -> None:
    await namespace.apply(models=inline())
    await servers.play(OWN, ready=True)
    await namespace.until("ModelsReady", "True", "AllReady")
    runner = await namespace.play("qa-generate", exit_code=None)
    await servers.play(OWN, restarts=1, last_log="Segmentation fault")
    found = await namespace.until("ModelsReady", "False", "Loading")
    assert "Segmentation fault" in found["message"]
    await until_warned(namespace, "Loading")
    assert not await namespace.condition("Failed")
    assert await namespace.pod("qa-generate") == runner, "the runner waits where it is"
    await servers.play(OWN, ready=True)
    await namespace.until("ModelsReady", "True", "AllReady")
    await namespace.play("qa-generate", message=run_message(RunnerPhase.ALL))
    await namespace.until("Complete", "True")
