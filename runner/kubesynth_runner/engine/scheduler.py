"""Streams records through the stages: depth first, every slot busy, a bounded number in flight.

Each model has a lane: as many workers as it has slots, and the records that wait for it, deepest
stage first. A worker that finds its lane empty takes the next input record, so an input record is
only begun when nothing nearer its end can use the slot. There is no task per record and no barrier.

An input record and all that is made of it end together (`RootOutcome`): that is the unit that the
output commits and that a restart repeats, out of the journal.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from kubesynth_runner import errors, records
from kubesynth_runner.engine.calls import Caller, CallFailed, StageBinding
from kubesynth_runner.engine.stage_calls import StageCalls, children
from kubesynth_runner.io.shard_output import RootOutcome
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.pipelines.base import Stage, StageFailure
from kubesynth_runner.tally import Tally

READ_BATCH_RECORDS = 128
# Calls under way when the process is asked to stop get this long to end.
STOP_GRACE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class BoundStage:
    """A stage and its binding to a model."""

    stage: Stage
    binding: StageBinding


@dataclasses.dataclass(slots=True)
class _Root:
    ordinal: int
    pending: int = 1
    rows: list[records.Record] = dataclasses.field(default_factory=list)
    failed: list[records.FailedRecord] = dataclasses.field(default_factory=list)
    filtered: int = 0
    tally: Tally = dataclasses.field(default_factory=Tally)


@dataclasses.dataclass(frozen=True, slots=True)
class _Work:
    root: _Root
    record: records.Record | None
    stage_index: int


class _Lane:
    """Records that wait for one model, by stage, and workers that wait for records."""

    def __init__(self, stages: int, workers: int) -> None:
        self.workers = workers
        self._waiting: list[deque[_Work]] = [deque() for _ in range(stages)]
        self._idle: deque[asyncio.Future[None]] = deque()

    def push(self, work: _Work) -> None:
        self._waiting[work.stage_index].append(work)
        self.wake(1)

    def pop(self) -> _Work | None:
        for queue in reversed(self._waiting):
            if queue:
                return queue.popleft()
        return None

    async def sleep(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._idle.append(turn)
        await turn

    def wake(self, count: int) -> None:
        while count and self._idle:
            turn = self._idle.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1

    def wake_all(self) -> None:
        self.wake(len(self._idle))


class Scheduler:
    """Runs one shard's input through its stages. Use once."""

    def __init__(
        self,
        stages: Sequence[BoundStage],
        caller: Caller,
        source: Iterator[RootInput],
        deliver: Callable[[RootOutcome], Awaitable[None]],
    ) -> None:
        """`source` is read in a thread; `deliver` takes each finished input record."""
        self._stages = stages
        self._caller = caller
        self._source = source
        self._deliver = deliver
        self._lanes = self._make_lanes()
        self._first = self._lanes[stages[0].binding.connection.role]
        # Enough input records to keep every slot of every model busy, and then some.
        self._max_roots = 2 * sum(lane.workers for lane in self._lanes.values()) + 2
        self._live_roots = 0
        self._buffer: deque[RootInput] = deque()
        self._exhausted = False
        self._fetching = False
        self._group = asyncio.TaskGroup()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def _make_lanes(self) -> Mapping[str, _Lane]:
        return {
            stage.binding.connection.role: _Lane(
                len(self._stages), stage.binding.connection.gate.admission.concurrency
            )
            for stage in self._stages
        }

    async def run(self) -> None:
        """Process the whole source; return when everything has been delivered.

        Raises:
            StoppedError: `stop` was called; what was under way is in the journal or forgotten.
            RunnerError: whatever made the shard impossible to go on with.
        """
        try:
            async with self._group as group:
                for lane in self._lanes.values():
                    self._tasks += [
                        group.create_task(self._work(lane)) for _ in range(lane.workers)
                    ]
        except BaseExceptionGroup as group:
            # Whatever else went wrong on the way down, this is why.
            why = group.subgroup(errors.RunnerError)
            if why is None:
                raise
            raise _first(why) from group
        if self._stopping:
            raise errors.StoppedError

    def stop(self) -> None:
        """Begin nothing more; give calls under way a few seconds to be journalled."""
        if self._stopping:
            return
        self._stopping = True
        self._caller.stopped.set()
        for stage in self._stages:
            stage.binding.connection.gate.stop()
        for lane in self._lanes.values():
            lane.wake_all()
        loop = asyncio.get_running_loop()
        loop.call_later(STOP_GRACE_SECONDS, self._cancel)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _work(self, lane: _Lane) -> None:
        while not self._stopping:
            work = lane.pop() or self._begin(lane)
            if work is None:
                if self._exhausted and not self._live_roots and not self._buffer:
                    return
                await lane.sleep()
                continue
            try:
                await self._process(work)
            except errors.StoppedError:
                return

    def _begin(self, lane: _Lane) -> _Work | None:
        """Take the next input record, if this lane begins them and there is room for one."""
        if lane is not self._first or self._live_roots >= self._max_roots:
            return None
        if len(self._buffer) < READ_BATCH_RECORDS // 2:
            self._fetch()
        if not self._buffer:
            return None
        item = self._buffer.popleft()
        self._live_roots += 1
        root = _Root(item.ordinal)
        if isinstance(item.record, records.FailedRecord):
            root.failed.append(item.record)
            return _Work(root, None, 0)
        return _Work(root, item.record, 0)

    def _fetch(self) -> None:
        if not self._fetching and not self._exhausted:
            self._fetching = True
            self._group.create_task(self._read_batch())

    async def _read_batch(self) -> None:
        batch = await asyncio.to_thread(
            lambda: list(itertools.islice(self._source, READ_BATCH_RECORDS))
        )
        self._buffer.extend(batch)
        self._exhausted = not batch
        self._fetching = False
        self._wake_for_input()

    def _wake_for_input(self) -> None:
        if self._exhausted and not self._live_roots and not self._buffer:
            for lane in self._lanes.values():
                lane.wake_all()
        else:
            self._first.wake(max(1, len(self._buffer)))

    async def _process(self, work: _Work) -> None:
        root = work.root
        if work.record is not None:
            await self._run_stage(work, work.record)
        root.pending -= 1
        if root.pending == 0:
            await self._deliver(
                RootOutcome(root.ordinal, root.rows, root.failed, root.filtered, root.tally)
            )
            self._live_roots -= 1
            self._wake_for_input()

    async def _run_stage(self, work: _Work, record: records.Record) -> None:
        bound = self._stages[work.stage_index]
        calls = StageCalls(self._caller, bound.binding, record, work.root.ordinal)
        ordinal = 0
        try:
            async for columns in children(bound.stage, record, calls):
                child = record.child(bound.binding.index, ordinal, columns, tuple(calls.provenance))
                ordinal += 1
                self._forward(work, child)
            if ordinal == 0:
                work.root.filtered += 1
        except StageFailure as failure:
            work.root.failed.append(failed_stage(bound.binding, record, failure, calls))
        except CallFailed as failure:
            work.root.failed.append(failed_call(bound.binding, record, failure))
        finally:
            work.root.tally.add(calls.tally)

    def _forward(self, work: _Work, child: records.Record) -> None:
        following = work.stage_index + 1
        if following == len(self._stages):
            work.root.rows.append(child)
            return
        work.root.pending += 1
        lane = self._lanes[self._stages[following].binding.connection.role]
        lane.push(_Work(work.root, child, following))


def failed_stage(
    binding: StageBinding, record: records.Record, failure: StageFailure, calls: StageCalls
) -> records.FailedRecord:
    """Return the error of a record that a stage could make nothing of."""
    return records.FailedRecord(
        record.record_id,
        record.parent_id,
        record.root_id,
        record.source,
        binding.stage_id,
        failure.kind,
        str(failure),
        failure.raw,
        attempts=sum(call.attempts for call in calls.provenance),
        columns=record.columns,
    )


def failed_call(
    binding: StageBinding, record: records.Record, failure: CallFailed
) -> records.FailedRecord:
    """Return the error of a record whose call failed for good."""
    return records.FailedRecord(
        record.record_id,
        record.parent_id,
        record.root_id,
        record.source,
        binding.stage_id,
        failure.kind,
        str(failure),
        failure.body,
        failure.status_code,
        failure.attempts,
        record.columns,
    )


def _first(group: BaseExceptionGroup[errors.RunnerError]) -> errors.RunnerError:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, errors.RunnerError)
    return leaf
