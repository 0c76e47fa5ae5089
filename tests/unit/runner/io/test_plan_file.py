from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.io import plan_file
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.plan_file import InputFile, Partition, PlanFile, Slice


def planned(records: int) -> tuple[PlanFile, list[Partition]]:
    file = InputFile("file:///a", "JSONL", 10, "v", records)
    partitions = [Partition(0, (Slice(file, 0, records),))]
    version = plan_file.version_of(partitions)
    return PlanFile("run", "h", version, 1, records, (file,), {}, 1, 2, 3), partitions


def test_plan_is_stored_with_its_partitions(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    plan, partitions = planned(5)
    assert plan_file.load(storage, "run") is None
    assert plan_file.save(storage, plan, partitions) == plan
    assert plan_file.load(storage, "run") == plan
    assert plan_file.load_partition(storage, plan, 0) == partitions[0]
    assert plan_file.load(storage, "another run") is None


def test_first_of_two_plans_counts_with_its_own_partitions(tmp_path: Path) -> None:
    """Two plan pods at once, between which the input has changed."""
    storage = LocalStorage(tmp_path)
    first, first_partitions = planned(5)
    second, second_partitions = planned(6)
    plan_file.save(storage, first, first_partitions)
    assert plan_file.save(storage, second, second_partitions) == first
    loaded = plan_file.load(storage, "run")
    assert loaded is not None
    assert plan_file.load_partition(storage, loaded, 0).records == loaded.records == 5


def test_missing_partition_can_be_tried_again(tmp_path: Path) -> None:
    plan, _ = planned(5)
    with pytest.raises(errors.RetryLaterError, match="partitions"):
        plan_file.load_partition(LocalStorage(tmp_path), plan, 0)
