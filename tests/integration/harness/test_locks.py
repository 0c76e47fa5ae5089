"""Two processes never build the same thing at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kubesynth_testing.cluster import locks

HOLD = """
import sys
from pathlib import Path
from kubesynth_testing.cluster import locks
with locks.file_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_others_out_until_its_holder_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(locks.__file__).parents[2])},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with locks.file_lock(path, until=lambda: True) as held:
            assert not held
        holder.kill()
        holder.wait()
        with locks.file_lock(path) as held:
            assert held
