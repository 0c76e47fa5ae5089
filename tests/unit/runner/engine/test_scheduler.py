from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors, records
from kubesynth_runner.engine.calls import Caller, StageBinding
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.purse import Caps, Purse
from kubesynth_runner.engine.scheduler import STOP_GRACE_SECONDS, BoundStage, Scheduler
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.shard_output import RootOutcome
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.llm.base import Completion, CompletionRequest
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time
from kubesynth_testing.fan_out import FanOut

SOURCE = records.Source("file:///a", 1)


class SlowClient(FakeChatClient):
    """Takes its time for every request, and remembers how busy it was."""

    def __init__(self, latency: Callable[[], float]) -> None:
        super().__init__("So.")
        self._latency = latency
        self.in_flight = 0
        self.peak = 0
        self.busy_seconds = 0.0
        self.began: list[str] = []

    async def complete(self, request: CompletionRequest) -> Completion:
        self.began.append(request.messages[-1].content)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        latency = self._latency()
        try:
            await asyncio.sleep(latency)
            self.busy_seconds += latency
            return await super().complete(request)
        finally:
            self.in_flight -= 1


class Shard:
    """A scheduler over a pipeline, with one client for each stage or one for all of them."""

    def __init__(
        self,
        folder: Path,
        stages: list[FanOut],
        clients: list[FakeChatClient],
        *,
        concurrency: int = 4,
        roots: int | Iterator[RootInput] = 10,
        refusal: Exception | None = None,
    ) -> None:
        self.journal = Journal(LocalStorage(folder), "run", 0, epoch=1)
        self.caller = Caller(self.journal)
        self.outcomes: list[RootOutcome] = []
        self.purse = Purse(Caps(), {})
        self._refusal = refusal
        connections = [
            ModelConnection(f"m{n}", "m", client, Gate(concurrency), True, 2, 60.0)
            for n, client in enumerate(clients)
        ]
        bound = [
            BoundStage(stage, StageBinding(n, f"s{n}", connections[n % len(clients)], {}, None))
            for n, stage in enumerate(stages)
        ]
        source = make_roots(roots) if isinstance(roots, int) else roots
        self.scheduler = Scheduler(bound, self.caller, source, self._deliver, self.purse)

    async def _deliver(self, outcome: RootOutcome) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.outcomes.append(outcome)

    async def run(self) -> None:
        try:
            await self.scheduler.run()
        finally:
            self.journal.close()


def make_roots(count: int, **columns: object) -> Iterator[RootInput]:
    for number in range(count):
        name = f"r{number}"
        yield RootInput(number, records.Record(name, None, name, (), dict(columns), SOURCE))


def seconds() -> float:
    return asyncio.get_running_loop().time()


def test_every_record_goes_through_every_stage_once(tmp_path: Path) -> None:
    async def main() -> None:
        client = SlowClient(random.Random(1).random)
        shard = Shard(tmp_path, [FanOut(3), FanOut(2)], [client], roots=25)
        await shard.run()
        assert sorted(outcome.ordinal for outcome in shard.outcomes) == list(range(25))
        ids = [row.record_id for outcome in shard.outcomes for row in outcome.rows]
        assert len(ids) == len(set(ids)) == 25 * 6
        assert len(client.began) == len(set(client.began)) == 25 * (1 + 3)
        assert sum(outcome.tally.requests_ok for outcome in shard.outcomes) == 25 * 4
        assert client.peak == 4

    virtual_time.run(main())


@pytest.mark.parametrize("roots", [0, 1, 3])
def test_more_workers_than_records(tmp_path: Path, roots: int) -> None:
    async def main() -> None:
        client = SlowClient(lambda: 1.0)
        shard = Shard(tmp_path, [FanOut(), FanOut()], [client], concurrency=64, roots=roots)
        await shard.run()
        assert len(shard.outcomes) == roots
        assert seconds() == pytest.approx(2.0 if roots else 0.0)

    virtual_time.run(main())


def test_deeper_stages_come_first(tmp_path: Path) -> None:
    """With one slot, a record is finished before the next one is begun."""

    async def main() -> None:
        client = SlowClient(lambda: 1.0)
        shard = Shard(tmp_path, [FanOut(2), FanOut()], [client], concurrency=1, roots=3)
        await shard.run()
        depth = [0 if name.startswith("r") else 1 for name in client.began]
        assert depth == [0, 1, 1] * 3

    virtual_time.run(main())


def test_the_last_records_do_not_end_alone(tmp_path: Path) -> None:
    """What is last takes two calls, one after the other: others must be there to go beside it."""

    async def main() -> None:
        client = SlowClient(lambda: 1.0)
        shard = Shard(tmp_path, [FanOut(3), FanOut()], [client], concurrency=8, roots=33)
        await shard.run()
        calls = 33 * (1 + 3)
        assert len(client.began) == calls
        assert seconds() == math.ceil(calls / 8)

    virtual_time.run(main())


def test_a_free_slot_is_used_before_anything_is_made_of_the_answer(tmp_path: Path) -> None:
    """The next request is ready already: a server is not to wait for our bookkeeping."""
    delivered: list[int] = []

    class Watching(SlowClient):
        async def complete(self, request: CompletionRequest) -> Completion:
            delivered.append(len(shard.outcomes))
            return await super().complete(request)

    shard = Shard(tmp_path, [FanOut()], [Watching(lambda: 1.0)], concurrency=8, roots=9)
    virtual_time.run(shard.run())
    assert delivered == [0] * 9
    assert len(shard.outcomes) == 9


@pytest.mark.parametrize("stages", [1, 3])
def test_all_slots_are_busy_whatever_the_latencies(tmp_path: Path, stages: int) -> None:
    async def main() -> float:
        draw = random.Random(7)
        client = SlowClient(lambda: math.exp(draw.gauss(0, 0.6)))
        shard = Shard(tmp_path, [FanOut()] * stages, [client], concurrency=64, roots=6000 // stages)
        run = asyncio.create_task(shard.run())
        samples = []
        while len(client.began) < 5500:  # then the input runs out
            await asyncio.sleep(0.5)
            samples.append(client.in_flight)
        await run
        return sum(samples) / len(samples)

    assert virtual_time.run(main()) > 63.5


def test_two_models_work_side_by_side(tmp_path: Path) -> None:
    async def main() -> None:
        clients: list[FakeChatClient] = [SlowClient(lambda: 1.0), SlowClient(lambda: 1.0)]
        shard = Shard(tmp_path, [FanOut(), FanOut()], clients, concurrency=4, roots=400)
        await shard.run()
        assert seconds() == pytest.approx(101.0, abs=2.0)

    virtual_time.run(main())


def test_records_in_flight_are_bounded_when_a_later_stage_is_slow(tmp_path: Path) -> None:
    async def main() -> None:
        taken = 0

        def roots() -> Iterator[RootInput]:
            nonlocal taken
            for root in make_roots(5000):
                taken += 1
                yield root

        fast, slow = SlowClient(lambda: 0.001), SlowClient(lambda: 10.0)
        shard = Shard(tmp_path, [FanOut(), FanOut()], [fast, slow], roots=roots())
        task = asyncio.create_task(shard.run())
        await asyncio.sleep(300)
        done = len(shard.outcomes)
        assert 100 <= done <= 130
        begun = len(fast.began)
        assert begun - done <= 2 * (4 + 4) + 2
        assert taken - begun <= 3 * 128
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    virtual_time.run(main())


def test_failed_records_are_delivered_with_their_reason(tmp_path: Path) -> None:
    async def main() -> None:
        failed = records.FailedRecord("x", None, "x", SOURCE, "input", "BadInput", "no text")
        roots = [*make_roots(1), RootInput(1, failed), *make_roots(1, bad=True)]
        roots[2] = msgspec.structs.replace(roots[2], ordinal=2)
        shard = Shard(tmp_path, [FanOut(3)], [FakeChatClient("So.")], roots=iter(roots))
        await shard.run()
        good, unread, bad = sorted(shard.outcomes, key=lambda outcome: outcome.ordinal)
        assert (len(good.rows), good.failed) == (3, [])
        assert (unread.rows, unread.failed) == ([], [failed])
        assert len(bad.rows) == 1  # what was made before it failed stays
        assert [(f.kind, f.stage) for f in bad.failed] == [("Refusal", "s0")]

    virtual_time.run(main())


@pytest.mark.parametrize("clients", [1, 2])
def test_record_of_another_run_enters_in_the_middle(tmp_path: Path, clients: int) -> None:
    async def main() -> None:
        roots = (
            RootInput(step, records.Record(f"r{step}", "p", "root", (4,), {}, SOURCE), step)
            for step in range(4)
        )
        served = [SlowClient(lambda: 1.0) for _ in range(clients)]
        shard = Shard(tmp_path, [FanOut(2)] * 3, list(served), roots=roots)
        await shard.run()
        rows = {outcome.ordinal: outcome.rows for outcome in shard.outcomes}
        assert {step: len(found) for step, found in rows.items()} == {0: 8, 1: 4, 2: 2, 3: 1}
        assert [row.record_id for row in rows[2]] == [
            records.child_id("r2", 2, 0),
            records.child_id("r2", 2, 1),
        ]
        assert {row.root_id for found in rows.values() for row in found} == {"root"}
        assert sum(len(client.began) for client in served) == 1 + 2 + 4 + 1 + 2 + 1

    virtual_time.run(main())


def test_children_that_another_run_has_are_not_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        failing = make_roots(1, bad=True)
        first = Shard(tmp_path / "first", [FanOut(3)], [FakeChatClient("So.")], roots=failing)
        await first.run()
        (failed,) = first.outcomes[0].failed
        assert (failed.made, len(first.outcomes[0].rows)) == (1, 1)
        again = records.Record(failed.record_id, None, "r0", (), {}, SOURCE, made=failed.made)
        roots = iter([RootInput(0, again)])
        second = Shard(tmp_path / "second", [FanOut(3)], [FakeChatClient("So.")], roots=roots)
        await second.run()
        (outcome,) = second.outcomes
        ids = [row.record_id for row in (*first.outcomes[0].rows, *outcome.rows)]
        assert ids == [records.child_id("r0", 0, number) for number in range(3)]

    virtual_time.run(main())


def test_record_that_fails_again_earlier_still_has_its_children(tmp_path: Path) -> None:
    async def main() -> None:
        again = records.Record("r0", None, "r0", (), {"bad": True}, SOURCE, made=2)
        shard = Shard(
            tmp_path, [FanOut(3)], [FakeChatClient("So.")], roots=iter([RootInput(0, again)])
        )
        await shard.run()
        assert shard.outcomes[0].rows == []
        assert [failed.made for failed in shard.outcomes[0].failed] == [2]

    virtual_time.run(main())


def test_call_that_fails_for_good_fails_its_record_alone(tmp_path: Path) -> None:
    async def main() -> None:
        def script(request: CompletionRequest) -> str | ClientError:
            if request.messages[-1].content == "r1":
                return ClientError(
                    ErrorKind.CONTEXT_OVERFLOW, "too long", status_code=400, body="b"
                )
            return "So."

        shard = Shard(tmp_path, [FanOut()], [FakeChatClient(script)], roots=3)
        await shard.run()
        kinds = {o.ordinal: [f.kind for f in o.failed] for o in shard.outcomes}
        assert kinds == {0: [], 1: ["ContextOverflow"], 2: []}
        (failure,) = next(o.failed for o in shard.outcomes if o.failed)
        assert (failure.status_code, failure.raw, failure.attempts) == (400, "b", 1)

    virtual_time.run(main())


def test_record_without_children_counts_as_filtered(tmp_path: Path) -> None:
    async def main() -> None:
        shard = Shard(tmp_path, [FanOut(0), FanOut()], [FakeChatClient("So.")], roots=3)
        await shard.run()
        assert [outcome.filtered for outcome in shard.outcomes] == [1, 1, 1]
        assert all(not outcome.rows for outcome in shard.outcomes)

    virtual_time.run(main())


def test_stop_lets_calls_under_way_end_and_begins_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        client = SlowClient(lambda: 2.0)
        shard = Shard(tmp_path, [FanOut(), FanOut()], [client], roots=100)
        task = asyncio.create_task(shard.run())
        await asyncio.sleep(3)
        shard.scheduler.stop()
        shard.scheduler.stop()
        begun = len(client.began)
        with pytest.raises(errors.StoppedError):
            await task
        assert seconds() == pytest.approx(4.0)
        assert len(client.began) == begun
        assert len(client.requests) == begun  # all of them were answered, and journalled

    virtual_time.run(main())


def test_stop_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    async def main() -> None:
        client = SlowClient(lambda: 1e6)
        shard = Shard(tmp_path, [FanOut()], [client], roots=100)
        task = asyncio.create_task(shard.run())
        await asyncio.sleep(1)
        shard.scheduler.stop()
        with pytest.raises(errors.StoppedError):
            await task
        assert seconds() == pytest.approx(1 + STOP_GRACE_SECONDS)
        assert client.in_flight == 0

    virtual_time.run(main())


def test_run_that_has_ended_at_its_cap_waits_for_nothing_any_more(tmp_path: Path) -> None:
    async def main() -> None:
        shard = Shard(tmp_path, [FanOut()], [SlowClient(lambda: 1.0)])
        shard.purse.change(Caps(records=0))
        run = asyncio.create_task(shard.run())
        while not shard.scheduler.is_held_back:
            await asyncio.sleep(0.1)
        shard.scheduler.end_early()
        await run
        assert shard.scheduler.ended_early
        assert not shard.scheduler.is_held_back

    virtual_time.run(main())


def test_input_that_breaks_off_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    async def main() -> None:
        def roots() -> Iterator[RootInput]:
            yield from make_roots(200)
            raise errors.ConfigurationError(Reason.INPUT_CHANGED, "file has changed")

        client = SlowClient(lambda: 1.0)
        shard = Shard(tmp_path, [FanOut()], [client], roots=roots())
        with pytest.raises(errors.ConfigurationError, match="has changed"):
            await shard.run()
        assert client.in_flight == 0

    virtual_time.run(main())


def test_delivery_that_fails_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    async def main() -> None:
        client = SlowClient(lambda: 1.0)
        refusal = errors.FencedError("a newer writer")
        shard = Shard(tmp_path, [FanOut()], [client], roots=50, refusal=refusal)
        with pytest.raises(errors.FencedError, match="a newer writer"):
            await shard.run()
        assert client.in_flight == 0

    virtual_time.run(main())
