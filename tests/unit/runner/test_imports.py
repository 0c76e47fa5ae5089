"""What a runner does not load unless its job wants it: it would pay at every start."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import kubesynth_runner.cli.__main__, kubesynth_runner.run
print(*sorted({"grpc", "google.protobuf", "numpy", "tritonclient"} & sys.modules.keys()))
"""


def test_grpc_is_loaded_only_for_models_that_speak_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == ""
