from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubesynth_runner.embedded import cpus

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "available"),
    [
        pytest.param({}, ALL, id="no-cgroup"),
        pytest.param({"cpu.max": "max 100000"}, ALL, id="v2-unlimited"),
        pytest.param({"cpu.max": "50000 100000"}, 1, id="v2-half-a-cpu"),
        pytest.param({"cpu.max": "6400000 100000"}, ALL, id="v2-more-than-there-are"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            ALL,
            id="v1-unlimited",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1, id="v1-one"
        ),
    ],
)
def test_quota_of_the_container_limits_the_cpus(
    tmp_path: Path, files: dict[str, str], available: int
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpus.available_cpus(tmp_path) == available


@pytest.mark.parametrize(("count", "threads"), [(1, 1), (2, 1), (4, 3), (64, 8)])
def test_one_cpu_is_left_to_the_pipeline(count: int, threads: int) -> None:
    assert cpus.model_threads(count) == threads
