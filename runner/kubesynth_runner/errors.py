"""Why a runner stops before its work is done.

RunnerError                 carries a `Reason` for the job's conditions, and an exit code
  ConfigurationError   64   nobody can succeed with this spec, input or output
  PoisonedShardError   65   this shard cannot succeed; others may
  RetryLaterError      75   trying again later can help; everything paid for is safe
    FencedError             another writer has taken over this shard
  StoppedError        143   asked to stop; everything is safe
"""

from __future__ import annotations

from typing import ClassVar

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import ExitCode, LeaseReport


class RunnerError(Exception):
    """The run cannot go on in this process."""

    exit_code: ClassVar[ExitCode] = ExitCode.RETRY

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        # What the shard held of its job's caps, for whoever leases them.
        self.lease: LeaseReport | None = None


class ConfigurationError(RunnerError):
    """Somebody has to change the spec, the input or the output."""

    exit_code = ExitCode.CONFIGURATION


class PoisonedShardError(RunnerError):
    """Too much of this shard's input fails."""

    exit_code = ExitCode.POISONED_SHARD


class RetryLaterError(RunnerError):
    """An outage, a full disk, a lost mount: the same work can succeed later."""

    exit_code = ExitCode.RETRY


class FencedError(RetryLaterError):
    """A newer writer owns this shard, so nothing more may be committed from here."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.RUNNER_FAILED, message)


class StoppedError(RunnerError):
    """A signal asked the process to stop."""

    exit_code = ExitCode.CHECKPOINTED

    def __init__(self) -> None:
        super().__init__(Reason.SUSPENDED_BY_USER, "stopped on request; the journal is complete")
