"""The one way in which a command fails for a reason that the user can mend."""

from __future__ import annotations

from kubesynth_api.runner_contract import ExitCode


class CommandError(Exception):
    """Something about the command line or the manifest; shown without a traceback."""

    def __init__(self, message: str, exit_code: int = ExitCode.CONFIGURATION) -> None:
        super().__init__(message)
        self.exit_code = exit_code
