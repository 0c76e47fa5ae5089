"""Every check and every test of the project, and one summary at the end: `make test`.

What is quick to fail comes first. The programs and images that the slow tests need are built beside
it and at a lower priority: the integration tests wait for their servers, the cluster tests for the
rest. After a failed check or unit test nothing slower is started; a failed integration test
does not keep the cluster tests back.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubesynth_testing.cluster import fixtures, paths

REPORTS = paths.REPOSITORY / "build" / "test-reports"
_BIN = Path(sys.executable).parent
_HARNESS = (sys.executable, "-m", "kubesynth_testing.cluster")
_NO_TESTS_COLLECTED = 5  # pytest's exit status; without a cluster the cluster tests are deselected
_LOG_TAIL_LINES = 40
_SOURCES = ("crds", "operator", "runner", "tests/support", "benchmarks")
_PROCESSES = min(os.cpu_count() or 1, 4)  # each starts servers of its own: memory sets a limit


@dataclass(frozen=True, slots=True)
class Step:
    """A command whose exit status decides."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """How a step ended; `tests` counts (passed, failed, skipped) where it was a run of pytest."""

    name: str
    passed: bool
    seconds: float
    tests: tuple[int, int, int] | None = None


def tool(name: str, program: str, *arguments: str) -> Step:
    """Return the step that runs a program of this environment."""
    return Step(name, (str(_BIN / program), *arguments))


def pytest_step(name: str, *options: str) -> Step:
    """Return the step that runs the tests of one folder."""
    return tool(name, "pytest", f"tests/{name}", f"--junitxml={report_of(name)}", *options)


def report_of(name: str) -> Path:
    """Return where the tests of one folder leave their report in JUnit's format."""
    return REPORTS / f"{name}.xml"


QUICK = (
    tool("lint", "ruff", "check"),
    tool("format", "ruff", "format", "--check"),
    tool("contracts", "lint-imports", "--no-cache"),
    tool("generated", "python", "-m", "kubesynth_api.crd", "--check"),
    # As in the image. Tests start hundreds of processes, and where Python is told to write no
    # bytecode each of them would compile all of it: more than half a second.
    tool("bytecode", "python", "-m", "compileall", "-q", *_SOURCES),
)
# They run side by side; what mypy has found out about unchanged files outlives the clone.
TYPES = tool("types", "mypy", f"--cache-dir={paths.cache_root() / 'mypy'}")
UNIT = pytest_step("unit", f"--numprocesses={_PROCESSES}")
# They wait for servers a third of the time: two processes more keep the cores busy.
# Their conftest.py tells what stays together.
INTEGRATION = pytest_step("integration", f"--numprocesses={_PROCESSES + 2}", "--dist=loadscope")
CLUSTER = pytest_step("cluster")
CLEAN_UP = (
    Step("cluster-down", (*_HARNESS, "down")),
    Step("nothing-left", (*_HARNESS, "check-clean")),
)


def preparation() -> tuple[Step, Step | None]:
    """Return the steps that build what integration and cluster tests need on this host."""
    servers = Step("servers", ("nice", sys.executable, "-m", "kubesynth_testing.servers"))
    if fixtures.cluster_source() is not fixtures.Source.KIND:
        return servers, None
    return servers, Step("cluster-up", ("nice", *_HARNESS, "prebuild", "--start"))


def run(step: Step) -> Result:
    """Run a step to its end; what it prints is seen at once."""
    print(f"\n=== {step.name}: {' '.join(step.command)}", flush=True)
    began = time.monotonic()
    status = subprocess.run(step.command, check=False, stdin=subprocess.DEVNULL).returncode
    return finished(step, status, time.monotonic() - began)


def finished(step: Step, status: int, seconds: float) -> Result:
    """Return the result of a step that has ended."""
    tests = counted(report_of(step.name))
    # The gate itself never goes without a cluster.
    deselected = status == _NO_TESTS_COLLECTED and not os.environ.get("CI")
    return Result(step.name, status == 0 or deselected, seconds, tests)


def counted(report: Path) -> tuple[int, int, int] | None:
    """Return how many tests of a JUnit report passed, failed and were skipped."""
    if not report.exists():
        return None
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(kind, "0")) for suite in suites)
        for kind in ("tests", "failures", "errors", "skipped")
    )
    return total - failures - errors - skipped, failures + errors, skipped


class Background:
    """A step that runs beside the others, with its output in a file."""

    def __init__(self, step: Step, log: Path) -> None:
        self._step = step
        self._log = log
        self._began = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @classmethod
    @contextmanager
    def started(cls, step: Step, log: Path) -> Iterator[Background]:
        """Start a step, and stop it at the end of the block if it still runs."""
        background = cls(step, log)
        try:
            yield background
        finally:
            if background._process.poll() is None:
                os.killpg(background._process.pid, signal.SIGTERM)
                background._process.wait()

    def result(self) -> Result:
        """Wait for the end of the step, and show its last lines if it failed."""
        if self._process.poll() is None:
            print(f"\n=== waiting for {self._step.name}; its log is {self._log}", flush=True)
        result = finished(self._step, self._process.wait(), time.monotonic() - self._began)
        lines = self._log.read_text(errors="replace").splitlines()
        shown = lines[-3:] if result.passed else lines[-_LOG_TAIL_LINES:]
        print("\n".join([f"\n=== {self._step.name}", *shown]), flush=True)
        return result


def run_all() -> list[Result]:
    """Run the steps in their order and return the results of those that were started."""
    results = run_tests()
    if os.environ.get("CI"):
        results += [run(step) for step in CLEAN_UP]
    return results


def run_tests() -> list[Result]:
    """Run all steps but the last, which tidy up."""
    first, second = preparation()
    with Background.started(first, REPORTS / "prepare.log") as servers:
        with Background.started(TYPES, REPORTS / "types.log") as types:
            results = [run(step) for step in (*QUICK, UNIT)]
            results.append(types.result())
        if not all(result.passed for result in results):
            return results
        results.append(servers.result())
    if not results[-1].passed:
        return results
    if second is None:
        results += [run(INTEGRATION), run(CLUSTER)]
        return results
    with Background.started(second, REPORTS / "prepare-cluster.log") as prepare:
        results.append(run(INTEGRATION))
        results.append(prepare.result())
    if results[-1].passed:
        results.append(run(CLUSTER))
    return results


def summary(results: Sequence[Result], seconds: float) -> str:
    """Return a table of the steps, and a last line that counts the tests of all of them."""
    lines = [f"\n{'step':<14}{'result':<10}{'seconds':>8}  tests"]
    for result in results:
        outcome = "passed" if result.passed else "FAILED"
        lines.append(f"{result.name:<14}{outcome:<10}{result.seconds:>8.1f}  {_said(result)}")
    started = {result.name for result in results}
    left_out = [
        step.name
        for step in (*QUICK, UNIT, TYPES, INTEGRATION, CLUSTER)
        if step.name not in started
    ]
    lines += [f"{name:<14}not run" for name in left_out]
    lines.append(f"{'all':<24}{seconds:>8.1f}\n")
    counts = [result.tests for result in results if result.tests is not None]
    passed, failed, skipped = (
        (sum(kind) for kind in zip(*counts, strict=True)) if counts else (0, 0, 0)
    )
    lines.append(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return "\n".join(lines)


def _said(result: Result) -> str:
    if result.tests is None:
        return ""
    passed, failed, skipped = result.tests
    return f"{passed} passed, {failed} failed, {skipped} skipped"


def main() -> int:
    """Run everything and return an exit status of 0 only if all of it passed."""
    began = time.monotonic()
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    os.chdir(paths.REPOSITORY)
    results = run_all()
    print(summary(results, time.monotonic() - began), flush=True)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
