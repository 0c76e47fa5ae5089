"""An operator whose rights are taken away while it works, and given back."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import urlsplit

from kubesynth_operator import handlers
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.apiserver import ApiServer
from kubesynth_testing.operator_harness import Namespace, eventually
from kubesynth_testing.operator_process import operator_process, role_kubeconfig
from kubesynth_testing.relay import Relay, through


def test_kopf_never_gives_a_watch_up() -> None:
    """It ends a watch for good when the pauses between its tries do: the process would be blind."""
    chosen = handlers.kopf_settings(OperatorSettings(runner_image="none"))
    pauses = chosen.networking.error_backoffs
    assert not isinstance(pauses, float)
    for _ in range(2):  # each request takes them from the beginning
        taken = list(itertools.islice(pauses, 1000))
        assert len(taken) == 1000
        assert 0 < min(taken) <= max(taken) <= 30


async def test_rights_that_are_given_back_are_used_at_once(
    api_server: ApiServer, namespace: Namespace, tmp_path: Path
) -> None:
    kubeconfig = role_kubeconfig(api_server, namespace.name)
    async with Relay(urlsplit(api_server.url).port or 443) as relay:
        config = through(relay, api_server.url, kubeconfig, tmp_path)
        with operator_process(config, namespace.name, tmp_path) as process:
            await process.until_ready()
            await namespace.apply()
            await namespace.until("Running", "True", "ShardsActive")
            api_server.kubectl("delete", "rolebinding", "operator", "-n", namespace.name)
            await relay.cut()

            async def names_all() -> bool:
                log = process.log.read_text()
                return all(
                    f'resource \\"{kind}\\"' in log for kind in ("pods", "syntheticdatajobs")
                )

            await eventually(names_all, "the log names the rights that are missing")
            await namespace.apply("second")
            role_kubeconfig(api_server, namespace.name)
            await namespace.until("Running", "True", "ShardsActive", name="second")
            assert process.popen.poll() is None, "the same process"
            assert await process.answers("/healthz", 200)
