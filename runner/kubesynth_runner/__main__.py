"""The runner pod's entry point: environment in, exit code and termination message out.

SIGTERM checkpoints: nothing new is begun, calls under way get a few seconds to be journalled, and
the process exits with 143 within 10 seconds, whatever hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import msgspec
import pydantic
import uvloop

from kubesynth_api import runner_contract
from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import (
    ExitCode,
    InitialShare,
    LeaseReport,
    RunnerError,
    RunnerPhase,
    TerminationMessage,
)
from kubesynth_api.version import VERSION
from kubesynth_runner import errors, progress, telemetry
from kubesynth_runner import run as runs
from kubesynth_runner.environment import pod_environment
from kubesynth_runner.io import locations
from kubesynth_runner.phases.context import RunContext

LOG = logging.getLogger(__name__)

# After SIGTERM. The journal needs no farewell, so a hanging mount may be left behind.
EXIT_LIMIT_SECONDS = 9.0
ERROR_MESSAGE_CHARACTERS = 1200
# Of a termination message that is too long, before anything else than words is cut.
LEFT_OUT_KEPT_CHARACTERS = 100


def main() -> None:
    """Run the phase that the environment names and exit with its code."""
    telemetry.configure(os.environ.get(runner_contract.ENV_LOG_LEVEL, "INFO"))
    sys.excepthook = _on_crash
    signal.signal(signal.SIGTERM, _exit_before_start)
    request = runs.PhaseRequest(
        RunnerPhase(os.environ.get(runner_contract.ENV_PHASE, RunnerPhase.ALL)),
        int(os.environ.get(runner_contract.ENV_SHARD_INDEX, "0")),
        os.environ.get(runner_contract.ENV_PARTIAL) == "true",
        _outcome(),
    )
    try:
        spec = _load_spec()
        runs.collect_rarely()
        message = uvloop.run(_run(spec, request))
        code = ExitCode.OK
    except errors.RunnerError as exc:
        LOG.log(
            logging.INFO if isinstance(exc, errors.StoppedError) else logging.ERROR,
            "ended early",
            extra={"reason": exc.reason, "detail": str(exc), "exit_code": int(exc.exit_code)},
        )
        text = str(exc)[:ERROR_MESSAGE_CHARACTERS]
        error = RunnerError(reason=exc.reason, message=text)
        message = TerminationMessage(phase=request.phase, error=error, lease=exc.lease)
        code = exc.exit_code
    _end(message, code)


def _end(message: TerminationMessage, code: ExitCode) -> NoReturn:
    _write_termination_message(message)
    logging.shutdown()
    # Threads that hang in a read of a lost mount must not keep the pod.
    sys.stderr.flush()
    os._exit(int(code))


def _on_crash(
    kind: type[BaseException], value: BaseException, traceback: TracebackType | None
) -> None:
    """Say in the pod's status, too, what nobody has caught."""
    LOG.critical("crashed", exc_info=(kind, value, traceback))
    text = f"{kind.__name__}: {value}"[:ERROR_MESSAGE_CHARACTERS]
    error = RunnerError(reason=Reason.RUNNER_FAILED, message=text)
    phase = os.environ.get(runner_contract.ENV_PHASE, "")
    known = RunnerPhase(phase) if phase in tuple(RunnerPhase) else RunnerPhase.ALL
    _end(TerminationMessage(phase=known, error=error), ExitCode.RETRY)


def _outcome() -> Reason | None:
    text = os.environ.get(runner_contract.ENV_OUTCOME, "")
    return Reason(text) if text in set(Reason) else None


def _share() -> InitialShare | None:
    text = os.environ.get(runner_contract.ENV_SHARE)
    return InitialShare.model_validate_json(text) if text else None


def _exit_before_start(*_: object) -> None:
    os._exit(int(ExitCode.CHECKPOINTED))


def _load_spec() -> RunSpec:
    path = Path(os.environ.get(runner_contract.ENV_RUN_SPEC, runner_contract.RUN_SPEC_PATH))
    try:
        return RunSpec.model_validate_json(path.read_bytes())
    except (OSError, pydantic.ValidationError) as exc:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC,
            f"{path} is no run specification for kubesynth {VERSION}; operator and runner image "
            f"must be of the same version: {exc}",
        ) from exc


async def _run(spec: RunSpec, request: runs.PhaseRequest) -> TerminationMessage:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    budget = spec.spec.budget
    state = progress.Progress(request.phase, request.shard, prices=budget.prices if budget else {})
    port = int(os.environ.get(runner_contract.ENV_HTTP_PORT, runner_contract.HTTP_PORT))
    token = os.environ.get(runner_contract.ENV_LEASE_TOKEN, "")
    server = await progress.serve(state, port, token)
    try:
        environment = pod_environment([model.name for model in spec.spec.models])
        storage = locations.open_storage(spec.spec.output, environment.mounts)
        context = RunContext(spec, environment, storage, state, stop, _share())
        LOG.info(
            "started",
            extra={
                "phase": request.phase,
                "shard": request.shard,
                "job": spec.name,
                "namespace": spec.namespace,
                "version": VERSION,
            },
        )
        message = await runs.run_phase(context, request)
        return message.model_copy(update={"lease": _last_lease(state)})
    except errors.RunnerError as exc:
        exc.lease = _last_lease(state)
        raise
    finally:
        with contextlib.suppress(OSError):
            await server.cleanup()


def _last_lease(state: progress.Progress) -> LeaseReport | None:
    """Return what the shard held of the caps; rates end with the pod."""
    if state.lease is None:
        return None
    report = state.lease.report()
    return report.model_copy(update={"lease": report.lease.model_copy(update={"models": {}})})


def _on_signal(stop: asyncio.Event) -> None:
    if not stop.is_set():
        stop.set()
        watchdog = threading.Timer(EXIT_LIMIT_SECONDS, os._exit, [int(ExitCode.CHECKPOINTED)])
        watchdog.daemon = True
        watchdog.start()


def _write_termination_message(message: TerminationMessage) -> None:
    """Leave the message where the kubelet looks for it; outside a pod there is no such place."""
    path = Path(
        os.environ.get(
            runner_contract.ENV_TERMINATION_MESSAGE_PATH, runner_contract.TERMINATION_MESSAGE_PATH
        )
    )
    with contextlib.suppress(OSError):
        path.write_bytes(encode_termination_message(message))


def encode_termination_message(message: TerminationMessage) -> bytes:
    """Return a message as JSON, shortened to what the contract allows."""
    data = msgspec.json.encode(message.to_wire())
    while len(data) > runner_contract.TERMINATION_MESSAGE_MAX_BYTES:
        message = _shortened(message)
        data = msgspec.json.encode(message.to_wire())
    return data


def _shortened(message: TerminationMessage) -> TerminationMessage:
    """Return a message with less in it. What is cut goes in this order; the totals stay."""
    failures, left_out = message.failures or (), message.left_out or ""
    if message.error is not None and message.error.message:
        text = message.error.message[: len(message.error.message) // 2]
        return message.model_copy(
            update={"error": message.error.model_copy(update={"message": text})}
        )
    if len(failures) > 1:
        return message.model_copy(update={"failures": failures[:-1]})
    if len(left_out) > LEFT_OUT_KEPT_CHARACTERS:
        return message.model_copy(update={"left_out": left_out[: len(left_out) // 2]})
    if message.manifest_uri or message.report_uri:
        # Long ones; both follow from output.uri.
        return message.model_copy(update={"manifest_uri": None, "report_uri": None})
    return message.model_copy(update={"failures": None, "left_out": None})


if __name__ == "__main__":
    main()
