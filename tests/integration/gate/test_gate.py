"""`make test` as a program: which step follows which, and what it says at the end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from kubesynth_testing import gate, servers
from kubesynth_testing.cluster.binaries import MissingToolchainError
from kubesynth_testing.gate import Result, Step

PASSES = (sys.executable, "-c", "pass")
FAILS = (sys.executable, "-c", "raise SystemExit(1)")
BROKEN = (sys.executable, "-c", "raise SystemExit('no compiler')")
PASSING_TESTS = (
    "<testsuites><testsuite tests='7' failures='0' errors='0' skipped='1'/></testsuites>"
)


@pytest.fixture(autouse=True)
def steps_that_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Replace every step by one that passes at once, outside of CI."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(gate, "REPORTS", tmp_path)
    monkeypatch.setattr(gate, "QUICK", (Step("lint", PASSES),))
    monkeypatch.setattr(gate, "UNIT", Step("unit", PASSES))
    monkeypatch.setattr(gate, "TYPES", Step("types", PASSES))
    monkeypatch.setattr(gate, "INTEGRATION", Step("integration", PASSES))
    monkeypatch.setattr(gate, "CLUSTER", Step("cluster", PASSES))
    monkeypatch.setattr(gate, "CLEAN_UP", (Step("cluster-down", PASSES),))
    prepare(monkeypatch, PASSES, PASSES)


def prepare(
    monkeypatch: pytest.MonkeyPatch, first: tuple[str, ...], image: tuple[str, ...] | None
) -> None:
    """Set what is built beside the other steps."""
    second = Step("cluster-up", image) if image is not None else None
    monkeypatch.setattr(gate, "preparation", lambda: (Step("servers", first), second))


def names(results: list[Result]) -> list[str]:
    return [result.name for result in results]


def test_every_step_runs_in_order() -> None:
    results = gate.run_all()
    assert names(results) == [
        "lint",
        "unit",
        "types",
        "servers",
        "integration",
        "cluster-up",
        "cluster",
    ]
    assert all(result.passed for result in results)


@pytest.mark.parametrize("check", [PASSES, FAILS], ids=["passed", "failed"])
def test_ci_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, check: tuple[str, ...]) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(gate, "QUICK", (Step("lint", check),))
    assert names(gate.run_all())[-1] == "cluster-down"


def test_failed_check_stops_before_anything_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = (sys.executable, "-c", "import time; time.sleep(60)")
    prepare(monkeypatch, slow, PASSES)
    monkeypatch.setattr(gate, "QUICK", (Step("lint", FAILS),))
    began = time.monotonic()
    results = gate.run_all()
    assert [(result.name, result.passed) for result in results] == [
        ("lint", False),
        ("unit", True),
        ("types", True),
    ]
    assert time.monotonic() - began < 30


def test_failed_integration_test_does_not_hide_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "INTEGRATION", Step("integration", FAILS))
    assert "cluster" in names(gate.run_all())


def test_without_an_image_to_build_the_cluster_tests_follow_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(monkeypatch, PASSES, None)
    assert names(gate.run_all()) == [
        "lint",
        "unit",
        "types",
        "servers",
        "integration",
        "cluster",
    ]


@pytest.mark.parametrize(
    ("commands", "last"),
    [((BROKEN, PASSES), "servers"), ((PASSES, BROKEN), "cluster-up")],
    ids=["servers", "image"],
)
def test_failed_preparation_is_shown_and_stops_what_needs_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    commands: tuple[tuple[str, ...], tuple[str, ...]],
    last: str,
) -> None:
    prepare(monkeypatch, *commands)
    assert names(gate.run_all())[-1] == last
    assert "no compiler" in capsys.readouterr().out


def test_summary_ends_with_the_sum_of_all_tests() -> None:
    results = [
        Result("lint", True, 0.1),
        Result("unit", True, 2.0, (10, 0, 0)),
        Result("integration", False, 3.0, (4, 1, 2)),
    ]
    lines = gate.summary(results, 5.1).splitlines()
    assert lines[-1] == "14 passed, 1 failed, 2 skipped"
    assert "cluster       not run" in lines


def test_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "unit.xml"
    report.write_text(PASSING_TESTS)
    assert gate.counted(report) == (6, 0, 1)
    assert gate.counted(tmp_path / "missing.xml") is None


@pytest.mark.parametrize(("in_ci", "passed"), [("", True), ("true", False)])
def test_only_the_gate_itself_must_have_a_cluster(
    monkeypatch: pytest.MonkeyPatch, in_ci: str, passed: bool
) -> None:
    monkeypatch.setenv("CI", in_ci)
    assert gate.finished(Step("cluster", PASSES), 5, 1.0).passed is passed


def test_servers_that_cannot_be_had_are_named_and_the_others_are_there() -> None:
    there: list[str] = []

    def impossible() -> None:
        raise MissingToolchainError("building needs Go")

    wanted = {"first": impossible, "second": lambda: there.append("second")}
    assert servers.prepare(wanted) == ["first: building needs Go"]
    assert there == ["second"]
