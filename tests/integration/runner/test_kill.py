"""A runner killed at any moment loses nothing, repeats nothing and pays for little twice."""

from __future__ import annotations

from pathlib import Path

from kubesynth_api.run_spec import RunSpec
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.killed_runs import CUT_OFF, SCORES, Fuzz, Place
from kubesynth_testing.runner_process import Nursery

DEATHS = 75
VICTIMS = 4
# The engine is the same whatever is asked: a few are enough for what only a scored run has.
DEATHS_OF_SCORED = 12
DEATHS_OF_CUT_OFF = 12
LATENCY = Faults(latency_seconds=0.01, latency_sigma=0.6)


def open_output(spec: RunSpec) -> LocalStorage:
    return LocalStorage(Path(spec.spec.output.uri.removeprefix("file://")))


DISK = Place(lambda folder: {"uri": f"file://{folder}/out"}, open_output)


async def test_killed_runs_on_a_disk_end_like_undisturbed_ones(
    tmp_path: Path, nursery: Nursery
) -> None:
    """What was in flight is asked again, and nothing else (design: process kill, disk kept)."""
    fuzz = Fuzz(tmp_path, DISK, nursery, LATENCY)
    await fuzz.run(DEATHS, VICTIMS)
    assert fuzz.deaths >= DEATHS


async def test_killed_runs_that_score_with_a_reward_model_end_like_undisturbed_ones(
    tmp_path: Path, nursery: Nursery
) -> None:
    fuzz = Fuzz(tmp_path, DISK, nursery, LATENCY, SCORES)
    await fuzz.run(DEATHS_OF_SCORED, VICTIMS)
    assert fuzz.deaths >= DEATHS_OF_SCORED


async def test_answers_that_were_cut_off_fail_the_same_records_after_a_kill(
    tmp_path: Path, nursery: Nursery
) -> None:
    """Their calls are journalled, and a new attempt has to know that they were cut off."""
    fuzz = Fuzz(tmp_path, DISK, nursery, LATENCY, CUT_OFF)
    await fuzz.run(DEATHS_OF_CUT_OFF, VICTIMS)
    assert fuzz.deaths >= DEATHS_OF_CUT_OFF
    _, failed = fuzz.expected
    assert {row["kind"] for row in failed if row["stage"] != "input"} == {"TruncatedCompletion"}
