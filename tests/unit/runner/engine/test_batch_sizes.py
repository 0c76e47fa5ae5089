"""How large batches are, and how many of their files there are at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubesynth_runner.engine.batch_sizes import BatchSize
from kubesynth_runner.engine.batching import FULL_QUEUE_PAUSE_SECONDS
from kubesynth_runner.engine.calls import Deferred, RecordCall
from kubesynth_testing import virtual_time
from kubesynth_testing.batch_desk import Desk, FakeBatches

FULL = "failed: token_limit_exceeded"


def sizes(api: FakeBatches) -> list[int]:
    return [len(lines) for lines in api.inputs.values()]


def now_seconds() -> float:
    return asyncio.get_running_loop().time()


def test_batches_that_meet_nothing_but_a_full_queue_are_halved_after_a_pause(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        api = FakeBatches(FULL)
        desk = Desk(tmp_path, api, least_bytes=0)
        assert all(isinstance(outcome, Deferred) for outcome in await desk.round(*"abcd"))
        assert now_seconds() >= FULL_QUEUE_PAUSE_SECONDS
        assert desk.reports[-2:] == ["waiting for room in the account's queue of batches", ""]
        await desk.caller.send_off()
        assert sizes(api) == [2, 2]
        desk.close()

    virtual_time.run(main())


def test_the_rest_that_finds_the_queue_full_of_ours_makes_no_batch_smaller(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches("completed", FULL)
        desk = Desk(tmp_path, api, max_requests=50, least_bytes=0)
        texts = [f"question {number}" for number in range(53)]
        await desk.round(*texts)
        # What had filled the queue has ended by then.
        assert now_seconds() < FULL_QUEUE_PAUSE_SECONDS
        await desk.settle()
        await desk.ask(*(f"{text}, in short" for text in texts))
        await desk.caller.send_off()
        assert sizes(api) == [50, 3]
        desk.close()

    virtual_time.run(main())


def test_one_model_s_full_queue_makes_no_other_model_s_batches_smaller(tmp_path: Path) -> None:
    async def main() -> None:
        full, free = FakeBatches(FULL), FakeBatches()
        desk = Desk(tmp_path, full, free, least_bytes=0)
        await desk.round(*"abcd")
        await desk.ask(*"abcd", model=1)
        await desk.caller.send_off()
        assert sizes(full) == [2, 2]
        assert sizes(free) == [4]
        desk.close()

    virtual_time.run(main())


def test_a_model_s_files_are_made_one_after_the_other_and_keep_to_the_limit(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        api.upload_seconds = 60.0
        desk = Desk(tmp_path, api, max_requests=50)
        numbers = iter(range(230))

        async def work() -> None:
            for number in numbers:
                await desk.ask_one(RecordCall(f"{number}", number, 0), f"question {number}")

        await asyncio.gather(*(work() for _ in range(36)))
        await desk.caller.send_off()
        assert sizes(api) == [50, 50, 50, 50, 30]
        assert api.most_uploads == 1
        desk.close()

    virtual_time.run(main())


def test_files_of_two_models_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        slow, quick = FakeBatches(), FakeBatches()
        slow.upload_seconds = 600.0
        desk = Desk(tmp_path, slow, quick, max_requests=1)
        behind = asyncio.create_task(desk.ask(*"ab"))
        await asyncio.sleep(1.0)
        await desk.ask(*"abc", model=1)
        assert now_seconds() < 10.0
        assert sizes(quick) == [1, 1]
        await behind
        desk.close()

    virtual_time.run(main())


def rounds(size: BatchSize, *outcomes: list[int]) -> list[int]:
    """Return the size after each round, whose batches were let in (> 0) or refused (< 0)."""
    after = []
    for batches in outcomes:
        for requests in batches:
            if requests > 0:
                size.on_let_in()
            else:
                size.on_full_queue(-requests)
        size.end_round()
        after.append(size.requests)
    return after


@pytest.mark.parametrize(
    ("outcomes", "after"),
    [
        pytest.param([[-1000], [-500], [-250]], [500, 250, 125], id="halved until they fit"),
        pytest.param([[-3], [-1]], [1, 1], id="a small one that is too large all the same"),
        pytest.param([[-1000, -3]], [500], id="by the largest"),
        pytest.param([[1000, -1000, -3]], [1000], id="our own are in the queue"),
        pytest.param([[-400], [200, 200], [400]], [200, 400, 800], id="growing again"),
        pytest.param([[-400], [200, -200]], [200, 200], id="not growing into a full queue"),
        pytest.param([[1000], []], [1000, 1000], id="as large as can be"),
    ],
)
def test_size_by_what_became_of_a_round(outcomes: list[list[int]], after: list[int]) -> None:
    assert rounds(BatchSize(1000), *outcomes) == after


def test_a_batch_has_at_least_the_bytes_that_fit_any_queue() -> None:
    size = BatchSize(1000, max_bytes=10_000, least_bytes=1_000)
    rounds(size, [-2], [-1])
    assert size.requests == 1
    assert size.has_room(9, 900, 100)
    assert not size.has_room(10, 1_000, 100)
    assert not size.has_room(1, 9_950, 100)


def test_a_request_beyond_those_bytes_goes_alone() -> None:
    size = BatchSize(1000, max_bytes=10_000, least_bytes=1_000)
    rounds(size, [-2])
    assert not size.has_room(1, 1_500, 1_500)
