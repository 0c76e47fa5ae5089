from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import layout, run_identity
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.run_identity import IfExists, RunIdentity
from kubesynth_runner.io.storage import Storage
from kubesynth_testing.crashing_storage import Crash, CrashingStorage, Fuse, Interlude


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def acquire(
    storage: Storage, uid: str, if_exists: IfExists = "Fail", pipeline_hash: str = "h"
) -> RunIdentity:
    return run_identity.acquire(
        storage, uid=uid, job=f"job of {uid}", pipeline_hash=pipeline_hash, if_exists=if_exists
    )


def leave_a_run(storage: LocalStorage, uid: str = "old") -> None:
    """Fill the output as a finished run of `uid` does."""
    names = layout.RunLayout(uid)
    acquire(storage, uid)
    for path in (
        f"data/{names.part_name(0, 0, 'parquet')}",
        f"errors/{names.part_name(0, 0, 'jsonl')}",
        names.plan,
        names.commit(0, 0),
        names.claim(0, 1),
        "manifest.json",
        "report.md",
        "_SUCCESS",
    ):
        storage.put(path, b"old")


def files(storage: LocalStorage) -> set[str]:
    return {file.path for file in storage.list_files("")}


@pytest.mark.parametrize("if_exists", ["Fail", "Resume", "Overwrite"])
def test_an_empty_output_becomes_ours_and_stays_ours(
    storage: LocalStorage, if_exists: IfExists
) -> None:
    mine = acquire(storage, "a", if_exists)
    assert mine.run_id == "a"
    assert not mine.clearing
    assert acquire(storage, "a", if_exists) == mine
    assert run_identity.require(storage, "a") == mine


@pytest.mark.parametrize("if_exists", ["Fail", "Resume", "Overwrite"])
def test_a_job_always_resumes_itself(storage: LocalStorage, if_exists: IfExists) -> None:
    leave_a_run(storage, "a")
    before = files(storage)
    assert acquire(storage, "a", if_exists).run_id == "a"
    assert files(storage) == before


def test_fail_refuses_a_run_of_another_job_and_names_it(storage: LocalStorage) -> None:
    leave_a_run(storage)
    with pytest.raises(errors.ConfigurationError, match="job of old") as caught:
        acquire(storage, "new")
    assert caught.value.reason is Reason.OUTPUT_CONFLICT


def _of_job(
    storage: Storage, uid: str, if_exists: IfExists = "Fail", **content: str
) -> RunIdentity:
    return run_identity.acquire(
        storage, uid=uid, job="qa", pipeline_hash=uid, if_exists=if_exists, content=content
    )


@pytest.mark.parametrize("if_exists", ["Fail", "Resume"])
def test_a_run_of_the_job_that_nobody_has_answered_is_no_run(
    storage: LocalStorage, if_exists: IfExists
) -> None:
    names = layout.RunLayout("old")
    _of_job(storage, "old")
    for path in (names.plan, names.claim(0, 1), names.lease(0, "old"), names.capabilities("m")):
        storage.put(path, b"old")
    assert _of_job(storage, "new", if_exists).run_id == "new"
    assert files(storage) == {"run.json"}
    with pytest.raises(errors.ConfigurationError, match="belongs to the job"):
        run_identity.require(storage, "old")


@pytest.mark.parametrize(
    "path",
    [
        layout.RunLayout("old").journal_segment(0, 1, 0),
        layout.RunLayout("old").commit(0, 0),
        f"{layout.RunLayout('old').batches(0)}/00000001-00000.json",
        "data/part.parquet",
        "manifest.json",
    ],
)
def test_a_run_with_anything_in_it_is_kept_and_what_differs_is_named(
    storage: LocalStorage, path: str
) -> None:
    _of_job(storage, "old", seed="1", input="same")
    storage.put(path, b"paid for")
    for if_exists in ("Fail", "Resume"):
        with pytest.raises(errors.ConfigurationError, match="with another seed, so it") as caught:
            _of_job(storage, "new", if_exists, seed="2", input="same")
        assert "ifExists: Resume" not in str(caught.value)
    assert storage.exists(path)


def test_resume_goes_on_with_an_equal_run(storage: LocalStorage) -> None:
    leave_a_run(storage)
    before = files(storage)
    assert acquire(storage, "new", "Resume").run_id == "old"
    assert files(storage) == before | {layout.RunLayout("old").owner("new")}
    assert run_identity.require(storage, "new").run_id == "old"
    assert run_identity.require(storage, "old").run_id == "old"
    assert acquire(storage, "new", "Fail").run_id == "old"  # ours by now


def test_resume_refuses_another_pipeline(storage: LocalStorage) -> None:
    leave_a_run(storage)
    with pytest.raises(errors.ConfigurationError, match="another pipeline, model, input or seed"):
        acquire(storage, "new", "Resume", pipeline_hash="other")


def test_overwrite_leaves_nothing_of_the_old_run(storage: LocalStorage) -> None:
    leave_a_run(storage)
    storage.put("somebody/elses", b"keep")
    mine = acquire(storage, "new", "Overwrite")
    assert (mine.run_id, mine.clearing) == ("new", False)
    assert files(storage) == {"run.json", "somebody/elses"}
    with pytest.raises(errors.ConfigurationError, match="belongs to the job 'job of new'"):
        run_identity.require(storage, "old")


def test_overwrite_clears_files_that_no_run_claims(storage: LocalStorage) -> None:
    storage.put("data/part-00000.parquet", b"")
    storage.put("_kubesynth/abc/plan.json", b"")
    acquire(storage, "new", "Overwrite")
    assert files(storage) == {"run.json"}


@pytest.mark.parametrize("if_exists", ["Fail", "Resume"])
@pytest.mark.parametrize("path", ["data/x.parquet", "errors/x", "_kubesynth/abc/plan.json"])
def test_files_that_no_run_claims_are_refused_by_name(
    storage: LocalStorage, if_exists: IfExists, path: str
) -> None:
    storage.put(path, b"")
    with pytest.raises(errors.ConfigurationError, match=path):
        acquire(storage, "new", if_exists)
    assert files(storage) == {path}


def test_other_files_in_the_folder_are_nobodys_business(storage: LocalStorage) -> None:
    storage.put("README.md", b"")
    acquire(storage, "new")
    assert files(storage) == {"README.md", "run.json"}


def test_run_json_that_is_none_is_refused(storage: LocalStorage) -> None:
    storage.put("run.json", b"{}")
    with pytest.raises(errors.ConfigurationError, match="not a kubesynth run"):
        acquire(storage, "new")


def test_nothing_planned_yet_can_be_tried_later(storage: LocalStorage) -> None:
    with pytest.raises(errors.RetryLaterError, match="plan runs first"):
        run_identity.require(storage, "a")


def test_overwrite_interrupted_anywhere_is_completed_by_the_next_attempt(tmp_path: Path) -> None:
    for point in itertools.count():
        storage = LocalStorage(tmp_path / str(point))
        leave_a_run(storage)
        fuse = Fuse(at=point // 2, is_done=bool(point % 2))
        try:
            acquire(CrashingStorage(storage, fuse), "new", "Overwrite")
        except Crash:
            found = run_identity.load(storage)
            assert found is not None
            if found.clearing:  # half of a run is nothing to go on with
                with pytest.raises(errors.ConfigurationError):
                    acquire(storage, "third", "Resume")
        assert acquire(storage, "new", "Overwrite").run_id == "new"
        assert files(storage) == {"run.json"}, point
        if not fuse.is_blown:
            break
    assert point > 10


def overtaken(folder: Path, winner: str) -> Iterator[tuple[set[str], set[str]]]:
    """Stop a clearing at each of its points while the run `winner` clears, and makes some files.

    Yields the files that are there at the end, and those that the winner has made.
    """
    names = layout.RunLayout(winner)
    made = {f"data/{names.part_name(0, 0, 'parquet')}", names.plan, names.commit(0, 0)}
    for point in range(1, 12):
        storage = LocalStorage(folder / str(point))
        leave_a_run(storage)

        def overtake(storage: LocalStorage = storage) -> None:
            acquire(storage, winner, "Overwrite")
            for path in made:
                storage.put(path, winner.encode())

        with contextlib.suppress(errors.FencedError):
            acquire(CrashingStorage(storage, Interlude(point, action=overtake)), "new", "Overwrite")
        if files(storage) == {"run.json"}:
            assert point > 5
            return  # it was through before that
        yield files(storage), made


def test_a_late_clearing_spares_what_the_run_has_made_since(tmp_path: Path) -> None:
    """Two pods of one job clear; one is stopped in the middle and goes on much later."""
    for point, (left, ours) in enumerate(overtaken(tmp_path, "new"), start=1):
        assert left == {"run.json"} | ours, point


def test_a_late_clearing_spares_what_another_job_has_made_since(tmp_path: Path) -> None:
    """A job is stopped while it clears; another one overwrites the output, and then it goes on."""
    for point, (left, theirs) in enumerate(overtaken(tmp_path, "newer"), start=1):
        assert theirs <= left, point


@pytest.mark.parametrize("if_exists", ["Fail", "Resume", "Overwrite"])
@pytest.mark.parametrize("point", range(12))
@pytest.mark.parametrize("is_empty", [True, False])
def test_of_two_claimants_the_one_who_may_go_on_holds_the_output(
    storage: LocalStorage, if_exists: IfExists, point: int, is_empty: bool
) -> None:
    """The second one runs to its end between two operations of the first one."""
    if not is_empty:
        leave_a_run(storage)
    held: dict[str, str] = {}

    def claim(uid: str, through: Storage) -> None:
        with contextlib.suppress(errors.RunnerError):
            held[uid] = acquire(through, uid, if_exists).run_id

    interlude = Interlude(point, action=lambda: claim("second", storage))
    claim("first", CrashingStorage(storage, interlude))
    final = run_identity.load(storage)
    assert final is not None
    may_go_on = {uid for uid in held if held[uid] == final.run_id}
    if if_exists == "Resume":
        assert set(held) == may_go_on
    if is_empty or if_exists != "Fail":
        assert may_go_on
        assert not final.clearing
    for uid in held.keys() - may_go_on:  # told at its next step at the latest
        with pytest.raises(errors.ConfigurationError):
            run_identity.require(storage, uid)
