"""One run, killed at many drawn points of its life, and what must hold after each death.

Several victims run beside each other, each with an output and a server of its own. Every draw comes
from one seed, which the test prints and `KUBESYNTH_TESTING_SEED` sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from kubesynth_api.run_spec import RunSpec
from kubesynth_runner.io import layout, ledger
from kubesynth_runner.io.journal import CallFrame
from kubesynth_runner.io.segments import read_frames
from kubesynth_runner.io.storage import Storage
from kubesynth_testing import runs
from kubesynth_testing.deaths import Death, read_count
from kubesynth_testing.fake_llm import Faults
from kubesynth_testing.fake_rewards import FakeRewards
from kubesynth_testing.recording_llm import RecordingLlm
from kubesynth_testing.runner_process import Nursery, Pod

ENV_SEED = "KUBESYNTH_TESTING_SEED"
CONCURRENCY = 6
DOCUMENTS = 20
BROKEN = 2
# Deaths of one run before it may end. More would only meet it at its beginning.
DEATHS_PER_RUN = 6
# Of deaths, those at an operation of the storage; the others are at any time.
AT_OPERATION_SHARE = 0.75
NAMES = layout.RunLayout("uid-1")


class TimedLlm(RecordingLlm):
    """Also remembers when each request was answered, on the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.answered_at: dict[str, float] = {}

    async def _deliver(
        self, request: web.Request, key: str, reply: dict[str, Any], fault: str | None
    ) -> web.StreamResponse:
        self.answered_at[key] = asyncio.get_running_loop().time()
        return await super()._deliver(request, key, reply, fault)


class TimedRewards(FakeRewards, TimedLlm):
    """A reward model that remembers the same."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What runs do: their pipeline, the server that they ask, and the rows of each document.

    With `rows` None some of them fail, which a calm run shows.
    """

    pipeline: tuple[Mapping[str, Any], ...]
    new_server: Callable[[], TimedLlm]
    rows: int | None


QUESTIONS = Work(({"closedQA": {"questions": 2}}, {"answer": {}}), TimedLlm, rows=2)
SCORES = Work(
    ({"score": {"method": "Attributes", "questionColumn": "text", "answerColumn": "reply"}},),
    TimedRewards,
    rows=1,
)
# Some answers of the fake server are longer.
CUT_OFF = Work(
    ({"closedQA": {"questions": 2}}, {"answer": {"sampling": {"maxTokens": 30}}}),
    TimedLlm,
    rows=None,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where runs have their output: how to make one, and how to look into it.

    `late_seconds` is how old an answer may be and still be lost: 0 where the journal is written
    before an answer is used.
    """

    new_output: Callable[[Path], Mapping[str, Any]]
    open: Callable[[RunSpec], Storage]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    late_seconds: float = 0.0


def a_job(folder: Path, work: Work, server: RecordingLlm, output: Mapping[str, Any]) -> RunSpec:
    """Return a run over the documents beside its folder, so that equal runs have equal rows."""
    documents = folder.parent / "in/docs.jsonl"
    if not documents.exists():
        documents.parent.mkdir()
        lines = [_document(number) for number in range(DOCUMENTS)]
        lines[:: DOCUMENTS // BROKEN] = ["{broken"] * BROKEN
        documents.write_text("\n".join(lines))
    return runs.a_run(
        folder,
        models=[runs.a_model(server.url, concurrency=CONCURRENCY)],
        input={"uri": f"file://{folder.parent}/in/*.jsonl", "idColumn": "id"},
        pipeline=list(work.pipeline),
        output={**output, "rowsPerPart": 6},
        failurePolicy={"maxFailedRecordsPercent": 50},
    )


def _document(number: int) -> str:
    about = f"Document {number} is about mills."
    return json.dumps({"id": f"doc-{number}", "text": about, "reply": f"{about} It is short."})


class Victim:
    """The attempts at one run, and what each of them left finished."""

    def __init__(
        self, folder: Path, spec: RunSpec, place: Place, server: TimedLlm, nursery: Nursery
    ) -> None:
        self.folder = folder
        self._place = place
        self._server = server
        self._nursery = nursery
        self.spec = spec
        self.storage = place.open(spec)
        self._finished: set[str] = set()
        self.reissued = 0
        self.operations = 0

    async def attempt(self, death: Death) -> bool:
        """Run until the end or the death; return whether it died. Checks what is left."""
        self._server.statistics.received.clear()
        pod = Pod(self.folder / "pod", self.spec)
        counter = self.folder / "pod/operations"
        pod.environment |= self._place.environment
        pod.environment |= death.environment(self.folder / "out", counter)
        pid = await self._nursery.start(pod)
        if death.seconds is not None:
            await self._kill(pid, death.seconds)
        code = await self._nursery.exit_code(pid)
        died_at = asyncio.get_running_loop().time()
        await asyncio.sleep(0.02)  # what the dead has sent may not have been read yet
        while self._server.statistics.in_flight:
            await asyncio.sleep(0.001)
        self.operations = read_count(counter)
        assert code in (0, -signal.SIGKILL), (
            f"exit code {code}: {pod.log.read_text()[-3000:]} {pod.message()}"
        )
        self._check(died_at, died=code != 0)
        return code != 0

    async def _kill(self, pid: int, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await self._nursery.exit_code(pid, seconds)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _check(self, died_at: float, *, died: bool) -> None:
        received, before = self._received(), self._finished
        self._finished = after = self._find_finished()
        assert not received & before, "a finished call was made again"
        assert before <= after, "a finished call was forgotten"
        lost = received - after
        assert died or not lost, "a run that ended has lost a call"
        late = self._server.answered_at
        unflushed = {
            key for key in lost if died_at - late.get(key, died_at) <= self._place.late_seconds
        }
        in_flight = lost if not self._place.late_seconds else lost - unflushed
        assert len(in_flight) <= CONCURRENCY, "more was lost than was in flight"
        self.reissued += len(lost)

    def _received(self) -> set[str]:
        """Return the requests about documents that the last attempt made."""
        counts = self._server.statistics.received
        known = self._server.documents.keys()
        twice = {key for key, count in counts.items() if count > 1}
        assert not twice & known, "one attempt asked twice"
        return counts.keys() & known

    def _find_finished(self) -> set[str]:
        """Return the requests whose answers are in the journal or in committed parts.

        Only looks: files that a commit names are left where they wait.
        """
        done: set[int] = set()
        for file in self.storage.list_files(f"{NAMES.shard(0)}/commits"):
            commit = msgspec.json.decode(self.storage.read(file.path), type=ledger.CommitRecord)
            for first, last in commit.done:
                done |= set(range(first, last + 1))
        texts = {frame.text for frame in self._journal()}
        return {
            key
            for key, document in self._server.documents.items()
            if document in done or self._server.texts.get(key) in texts
        }

    def _journal(self) -> list[CallFrame]:
        return [
            msgspec.msgpack.decode(payload, type=CallFrame)
            for file in self.storage.list_files(NAMES.journal(0))
            for _, payload in read_frames(self.storage.read(file.path))
        ]

    def fetch(self) -> Path:
        """Copy what readers of the dataset see to this machine."""
        target = self.folder / "fetched"
        for file in self.storage.list_files(""):
            if not file.path.startswith(layout.INTERNAL):
                (target / file.path).parent.mkdir(parents=True, exist_ok=True)
                (target / file.path).write_bytes(self.storage.read(file.path))
        return target

    def left_overs(self) -> list[str]:
        """Return the journal and the staged files that are still there."""
        folders = NAMES.journal(0), NAMES.staging(0)
        return [file.path for folder in folders for file in self.storage.list_files(folder)]


@dataclasses.dataclass(slots=True)
class Fuzz:
    """Kills runs at drawn points until there were enough deaths."""

    folder: Path
    place: Place
    nursery: Nursery
    latency: Faults
    work: Work = QUESTIONS
    seed: int = 0
    deaths: int = 0
    reissued: int = 0
    operations: int = 0
    life_seconds: float = 0.0
    expected: tuple[str, list[runs.Row]] = "", []

    async def run(self, deaths: int, victims: int) -> None:
        """Run `victims` runs at once until there were `deaths` deaths."""
        self.seed = int(os.environ.get(ENV_SEED, random.randrange(10**6)))
        print(f"seed {self.seed}: {ENV_SEED}={self.seed} draws the same deaths again")
        await self._measure()
        async with asyncio.TaskGroup() as group:
            for number in range(victims):
                share = deaths // victims + (number < deaths % victims)
                group.create_task(self._chain(number, share))
        print(
            f"{self.deaths} deaths, {self.reissued} calls again; an undisturbed run has "
            f"{self.operations} operations and takes {self.life_seconds:.2f} s"
        )

    def _victim(self, name: str, server: TimedLlm) -> Victim:
        folder = self.folder / name
        spec = a_job(folder, self.work, server, self.place.new_output(folder))
        return Victim(folder, spec, self.place, server, self.nursery)

    async def _measure(self) -> None:
        """Run once undisturbed, for what is expected and for where deaths can be."""
        async with self.work.new_server() as server:
            server.set_faults(self.latency)
            calm = self._victim("calm", server)
            began = asyncio.get_running_loop().time()
            assert not await calm.attempt(Death())
            self.life_seconds = asyncio.get_running_loop().time() - began
            self.operations = calm.operations
        output = calm.fetch()
        rows = runs.read_rows(output)
        self.expected = runs.digest(rows), runs.read_errors(output)
        failed = len(self.expected[1]) - BROKEN
        if self.work.rows is None:
            assert rows
            assert failed
        else:
            assert (len(rows), failed) == (self.work.rows * (DOCUMENTS - BROKEN), 0)

    async def _chain(self, number: int, deaths: int) -> None:
        draw = random.Random(f"{self.seed}/{number}")
        died = rounds = 0
        while died < deaths:
            rounds += 1
            assert rounds <= 3 * deaths, "runs end before they can be killed"
            died += await self._kill_one(draw, f"{number}-{rounds}", deaths - died)

    async def _kill_one(self, draw: random.Random, name: str, most: int) -> int:
        """Run one job to its end, killing it up to `most` times; return how often."""
        deaths: list[Death] = []
        async with self.work.new_server() as server:
            server.set_faults(self.latency)
            victim = self._victim(name, server)
            try:
                for _ in range(min(most, DEATHS_PER_RUN)):
                    deaths.append(self._draw_death(draw))
                    if not await victim.attempt(deaths[-1]):
                        deaths.pop()
                        break
                assert not await victim.attempt(Death())
                self._compare(victim)
            except AssertionError as error:
                error.add_note(f"run {name}, killed at {deaths}")
                raise
        self.deaths += len(deaths)
        self.reissued += victim.reissued
        return len(deaths)

    def _draw_death(self, draw: random.Random) -> Death:
        if draw.random() < AT_OPERATION_SHARE:
            return Death(operation=draw.randint(1, self.operations))
        return Death(seconds=draw.uniform(0, self.life_seconds))

    def _compare(self, victim: Victim) -> None:
        output = victim.fetch()
        digest, failed = self.expected
        assert (output / "_SUCCESS").exists()
        assert runs.digest(runs.read_rows(output)) == digest
        assert runs.read_errors(output) == failed
        assert not victim.left_overs()
