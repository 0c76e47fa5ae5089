"""Streams records through the stages: depth first, every slot busy, a bounded number in flight.

Each model has a lane: workers, a few more than it has slots, and the records that wait for it,
deepest stage first. A worker that finds its lane empty takes the next input record, so an input
record is only begun when nothing nearer its end can use the slot; the last few are begun early.
There is no task per record and no barrier. A stage that asks no model needs no slot: whoever has
made its record runs it at once.

An input record and all that is made of it end together (`RootOutcome`): that is the unit that the
output commits and that a restart repeats, out of the journal.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import msgspec

from kubesynth_runner import errors, records
from kubesynth_runner.engine.calls import Caller, CallFailed, Deferred, StageBinding, StagePlace
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.failed_records import failed_call, failed_stage
from kubesynth_runner.engine.purse import Purse
from kubesynth_runner.engine.read_ahead import ReadAhead
from kubesynth_runner.engine.stage_calls import NO_CALLS, NoCalls, StageCalls, make_children
from kubesynth_runner.io.shard_output import RootOutcome
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.pipelines.base import Stage, StageFailure
from kubesynth_runner.pipelines.templates import Condition
from kubesynth_runner.tally import Tally

# Calls under way when the process is asked to stop get this long to end.
STOP_GRACE_SECONDS = 5.0
# One worker more for so many slots of a model: it has its next request ready when a slot is free.
SLOTS_PER_SPARE_WORKER = 8
# Workers of a pipeline that asks no model at all.
WORKERS_WITHOUT_MODEL = 4
_NO_MODEL_LANE = ""


@dataclasses.dataclass(frozen=True, slots=True)
class BoundStage:
    """A stage in its place, bound to the model that it asks, if any.

    `others` are further models, by the field that names their role. Where `condition` does not hold
    a record goes on unchanged, past `skips` stages.
    """

    stage: Stage
    binding: StageBinding | StagePlace
    others: Mapping[str, StageBinding] = dataclasses.field(default_factory=dict)
    condition: Condition | None = None
    skips: int = 1

    @property
    def lane(self) -> str | None:
        """The role whose slots the stage needs."""
        binding = self.binding
        return binding.connection.role if isinstance(binding, StageBinding) else None


@dataclasses.dataclass(slots=True)
class _Root:
    ordinal: int
    pending: int = 1
    rows: list[records.Record] = dataclasses.field(default_factory=list)
    failed: list[records.FailedRecord] = dataclasses.field(default_factory=list)
    filtered: int = 0
    tally: Tally = dataclasses.field(default_factory=Tally)
    # A call of it is to be answered later, so that it is not done.
    is_deferred: bool = False


class _Work(msgspec.Struct, frozen=True, gc=False):
    root: _Root
    record: records.Record | None
    stage_index: int
    # Whether it comes from another run, into the middle of this pipeline.
    enters: bool = False


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
        purse: Purse | None = None,
    ) -> None:
        """`source` is read in a thread; `deliver` takes each finished input record."""
        self._purse = purse
        self._stages = stages
        self._caller = caller
        self._input = ReadAhead(source)
        self._deliver = deliver
        self._lanes = self._make_lanes()
        # Input records are begun where the first slot is needed.
        self._first = next(iter(self._lanes.values()))
        self._max_roots = self._count_roots()
        self._live_roots = 0
        self._fetching = False
        self._group = asyncio.TaskGroup()
        self._stopping = self.ended_early = False
        self._tasks: list[asyncio.Task[None]] = []

    def _make_lanes(self) -> Mapping[str, _Lane]:
        count = len(self._stages)
        lanes = {
            binding.connection.role: _Lane(count, _workers(binding.connection))
            for binding in (stage.binding for stage in self._stages)
            if isinstance(binding, StageBinding)
        }
        return lanes or {_NO_MODEL_LANE: _Lane(count, WORKERS_WITHOUT_MODEL)}

    async def run(self) -> None:
        """Process the whole source; return when everything has been delivered.

        Raises:
            StoppedError: `stop` was called; what was under way is in the journal or forgotten.
            RunnerError: whatever made the shard impossible to go on with.
        """
        try:
            async with self._group as group:
                for lane in self._lanes.values():
                    self._add_workers(group, lane, lane.workers)
        except BaseExceptionGroup as group:
            # Whatever else went wrong on the way down, this is why.
            why = group.subgroup(errors.RunnerError)
            if why is None:
                raise
            raise _first(why) from group
        if self._stopping and not self.ended_early:
            raise errors.StoppedError

    def _add_workers(self, group: asyncio.TaskGroup, lane: _Lane, count: int) -> None:
        self._tasks += [group.create_task(self._work(lane)) for _ in range(count)]

    def on_limits(self) -> None:
        """Look again after limits or caps have changed: there may be slots for more workers."""
        if self._stopping or not self._tasks:
            return
        for stage in self._stages:
            if not isinstance(stage.binding, StageBinding):
                continue
            connection = stage.binding.connection
            lane = self._lanes[connection.role]
            more = _workers(connection) - lane.workers
            if more > 0 and not self._is_over:
                lane.workers += more
                self._add_workers(self._group, lane, more)
        self._max_roots = self._count_roots()
        self._first.wake(self._first.workers)

    def _count_roots(self) -> int:
        """Return enough input records to keep every slot of every model busy, and then some."""
        return 2 * sum(lane.workers for lane in self._lanes.values()) + 2

    @property
    def _ends_soon(self) -> bool:
        """Whether fewer records than slots are left of the input: they are begun before all else.

        Each takes as long as all its stages do, one after the other. Begun last they would end
        alone, with most slots empty.
        """
        return self._input.is_exhausted and 0 < len(self._input) < self._first.workers

    @property
    def _is_over(self) -> bool:
        return self._input.is_exhausted and not self._live_roots and not self._input

    @property
    def is_held_back(self) -> bool:
        """Whether a cap keeps input from being begun, nothing is under way, and it is to go on."""
        held = self._purse is not None and not self._purse.may_begin(0) and not self._stopping
        return held and not self._live_roots and not self._is_over and not self._fetching

    def end_early(self) -> None:
        """Begin nothing more, let calls under way end in their own time, and return from `run`."""
        if not self._stopping:
            self.ended_early = True
            self._refuse()

    def stop(self) -> None:
        """Begin nothing more; give calls under way a few seconds to be journalled."""
        if self._stopping and not self.ended_early:
            return
        self.ended_early = False
        self._refuse()
        loop = asyncio.get_running_loop()
        loop.call_later(STOP_GRACE_SECONDS, self._cancel)

    def _refuse(self) -> None:
        self._stopping = True
        self._caller.stopped.set()
        for stage in self._stages:
            for binding in (stage.binding, *stage.others.values()):
                if isinstance(binding, StageBinding):
                    binding.connection.gate.stop()
        if self._purse is not None:
            self._purse.stop()
        for lane in self._lanes.values():
            lane.wake_all()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _work(self, lane: _Lane) -> None:
        while not self._stopping:
            work = (self._begin(lane) if self._ends_soon else None) or lane.pop()
            work = work or self._begin(lane)
            if work is None:
                if self._is_over:
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
        self._fetch()
        if not self._input:
            return None
        if self._purse is not None and not self._purse.may_begin(self._live_roots):
            return None
        item = self._input.pop()
        self._live_roots += 1
        root = _Root(item.ordinal)
        if isinstance(item.record, records.FailedRecord):
            root.failed.append(item.record)
            return _Work(root, None, 0)
        return _Work(root, item.record, item.step, enters=item.step > 0)

    def _fetch(self) -> None:
        if not self._fetching and self._input.is_low:
            self._fetching = True
            self._group.create_task(self._read_batch())

    async def _read_batch(self) -> None:
        await self._input.read()
        self._fetching = False
        self._wake_for_input()

    def _wake_for_input(self) -> None:
        if self._is_over:
            for lane in self._lanes.values():
                lane.wake_all()
        else:
            self._first.wake(max(1, len(self._input)))

    async def _process(self, work: _Work) -> None:
        root = work.root
        if work.record is not None:
            if work.enters:  # the slot that it needs may be another model's
                await self._forward(root, work.record, work.stage_index)
            elif self._stages:
                await self._enter(root, work.record, work.stage_index)
            else:  # generated records may be all that is wanted
                root.rows.append(work.record)
        root.pending -= 1
        if root.pending == 0:
            if not root.is_deferred:
                await self._deliver(
                    RootOutcome(root.ordinal, root.rows, root.failed, root.filtered, root.tally)
                )
            self._live_roots -= 1
            self._wake_for_input()

    async def _enter(self, root: _Root, record: records.Record, index: int) -> None:
        """Take a record through stage `index`, whose slot is ours, or past it."""
        bound = self._stages[index]
        if bound.condition is None:
            await self._run_stage(root, record, index)
            return
        try:
            applies = bound.condition.holds(record.columns)
        except StageFailure as failure:
            root.failed.append(failed_stage(bound.binding, record, failure))
            return
        if applies:
            await self._run_stage(root, record, index)
        else:
            await self._forward(root, record, index + bound.skips)

    async def _run_stage(self, root: _Root, record: records.Record, index: int) -> None:
        bound = self._stages[index]
        place = bound.binding
        calls: StageCalls | NoCalls
        if isinstance(place, StageBinding):
            calls = StageCalls(self._caller, place, record, root.ordinal, bound.others, root.tally)
        else:
            calls = NO_CALLS
        ordinal = 0

        async def take(columns: records.Columns) -> None:
            nonlocal ordinal
            child = record.child(place.index, ordinal, columns, calls.provenance)
            ordinal += 1
            if ordinal > record.made:
                await self._forward(root, child, index + 1)

        try:
            await make_children(bound.stage, record, calls, take)
            if ordinal == 0:
                root.filtered += 1
        except StageFailure as failure:
            attempts = sum(call.attempts for call in calls.provenance)
            made = max(ordinal, record.made)
            root.failed.append(failed_stage(place, record, failure, attempts, made))
        except CallFailed as failure:
            root.failed.append(failed_call(place, record, failure, max(ordinal, record.made)))
        except Deferred:
            root.is_deferred = True

    async def _forward(self, root: _Root, record: records.Record, index: int) -> None:
        """Hand a record to stage `index`: to its lane, or through it if it needs no slot."""
        if index == len(self._stages):
            root.rows.append(record)
            return
        role = self._stages[index].lane
        if role is None:
            await self._enter(root, record, index)
            return
        root.pending += 1
        self._lanes[role].push(_Work(root, record, index))


def _workers(connection: ModelConnection) -> int:
    slots = connection.gate.admission.concurrency
    return slots + slots // SLOTS_PER_SPARE_WORKER


def _first(group: BaseExceptionGroup[errors.RunnerError]) -> errors.RunnerError:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, errors.RunnerError)
    return leaf
