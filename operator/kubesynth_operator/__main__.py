"""The process: environment in, signals in, exit code out."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time

import uvloop

from kubesynth_api.version import VERSION
from kubesynth_operator import logs, probes, settings
from kubesynth_operator.app import Application, first_end
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.leader import Elector, LeadershipLostError
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.settings import OperatorSettings, SettingsError

_logger = logging.getLogger(__name__)
_EXIT_USAGE = 64
_EXIT_NOT_LEADER = 1


def main() -> int:
    """Run the operator until SIGTERM; the entry point `kubesynth-operator`."""
    if "--version" in sys.argv[1:]:
        print(f"kubesynth-operator {VERSION}")
        return 0
    try:
        chosen = settings.from_environment(os.environ)
    except SettingsError as exc:
        print(f"kubesynth-operator: {exc}", file=sys.stderr)
        return _EXIT_USAGE
    logs.configure(chosen.log_level)
    try:
        uvloop.run(run(chosen))
    except LeadershipLostError as exc:
        _logger.critical("leadership lost", extra={"error": str(exc)})
        return _EXIT_NOT_LEADER
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 0
    return 0


async def run(chosen: OperatorSettings) -> None:
    """Serve probes, become leader if that is asked for, and work, until SIGTERM."""
    _end_on_sigterm()
    client = await KubeClient.connect(chosen.kubeconfig)
    metrics = Metrics()
    app = Application(client, chosen, metrics)
    lease = (chosen.operator_namespace, chosen.lease_name)
    elector = Elector(client, lease, chosen.identity, time.monotonic)
    try:
        async with probes.serve(
            chosen.http_port,
            metrics.registry,
            complaints=app.health.complaints,
            is_ready=lambda: elector.stands_by or app.ready.is_set(),
        ):
            _logger.info("started", extra={"version": VERSION, "namespaces": chosen.namespaces})
            if not chosen.leader_election:
                metrics.leader.set(1)
                await app.run()
                return
            try:
                await elector.acquire()
                metrics.leader.set(1)
                await first_end([elector.hold(), app.run()])
            finally:
                await elector.release()
    finally:
        await client.close()


def _end_on_sigterm() -> None:
    """End this task on SIGTERM, from now until Kopf, once it watches, handles it.

    Without a handler the first process of a container hears no SIGTERM at all: one that stands by
    would go on, and might even become the leader while it is being replaced.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


if __name__ == "__main__":
    sys.exit(main())
