"""Random jobs that are disturbed at random end as the same jobs do that nobody disturbs."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from kubesynth_api.run_spec import RunSpec
from kubesynth_runner import clients, errors
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.llm.base import Completion, CompletionRequest, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient, FakeReply
from kubesynth_runner.phases import finalize, generate, plan
from kubesynth_testing import runs, virtual_time
from kubesynth_testing.crashing_storage import Crash, CrashingStorage, Fuse, Interlude

SEEDS = range(40)
PROMPT = {"user": {"inline": "About {{ text }}"}}
MILLS = ["Windmills", "Watermills"]
GERMAN = {"languages": ["German"], "columns": ["text"]}
PIPELINES: tuple[list[runs.Row], ...] = (
    [{"closedQA": {"questions": 3}}, {"answer": {}}],
    [{"prompt": {**PROMPT, "output": {"type": "List", "count": 3}}}, {"translate": GERMAN}],
    [
        {"prompt": PROMPT, "when": "(text | length) % 2 == 0"},
        {"filter": {"where": "'1' not in text"}},
    ],
    [{"prompt": {**PROMPT, "sampling": {"n": 2}}}],
    [
        {"openQA": {"macroTopics": 2, "subtopics": 0, "questions": 1, "additionalTopics": MILLS}},
        {"answer": {}},
    ],
)
FAILURES: tuple[FakeReply, ...] = (
    ClientError(ErrorKind.BAD_REQUEST, "not this one", status_code=400),
    ClientError(ErrorKind.SERVER_ERROR, "oops", status_code=500),
    Completion("", "stop", TokenUsage(7, 1), "fake", refusal="I must not."),
    Completion("It was", "length", TokenUsage(7, 2), "fake"),
)


@dataclasses.dataclass(slots=True)
class Job:
    """A job, and how its processes run."""

    spec: RunSpec
    rng: random.Random
    output: Path
    operations: int = 0

    async def phases(self, storage: CrashingStorage) -> None:
        """Do what the pods of the job do, those of the shards at once or one after the other."""
        context = runs.a_context(self.spec, storage)
        planned = await plan.run(context)
        shards = [
            generate.run(runs.a_context(self.spec, storage), planned, shard)
            for shard in range(planned.shards)
        ]
        if self.rng.random() < 0.5:
            ends = await asyncio.gather(*shards, return_exceptions=True)
            for end in ends:
                if isinstance(end, BaseException):
                    raise end
        else:
            for number, shard in enumerate(shards):
                try:
                    await shard
                except BaseException:
                    for rest in shards[number + 1 :]:
                        rest.close()
                    raise
        await finalize.run(context)

    def run(self, fuse: Fuse) -> bool:
        """Run until everything is done; return False if the process died or gave up."""
        storage = CrashingStorage(LocalStorage(self.output), fuse)
        try:
            virtual_time.run(self.phases(storage))
        except (Crash, BaseExceptionGroup, errors.RetryLaterError):
            if not fuse.is_blown and not isinstance(fuse, Interlude):
                raise
            return False
        finally:
            storage.bury()
        self.operations = max(self.operations, fuse.count)
        return True

    def disturb(self, operations: int) -> None:
        """Run once, with something in between."""
        point = self.rng.randrange(operations)
        match self.rng.choice(["death", "full disk", "another process", "another that dies"]):
            case "death":
                self.run(Fuse(point, self.rng.random() < 0.5))
            case "full disk":
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self.run(Interlude(point, action=lambda: LocalStorage(self.output).fail(full)))
            case "another process":
                self.run(Interlude(point, action=lambda: self._meanwhile(Fuse())))
            case _:
                end = Fuse(self.rng.randrange(operations))
                self.run(Interlude(point, action=lambda: self._meanwhile(end)))

    def _meanwhile(self, fuse: Fuse) -> None:
        other = threading.Thread(target=self.run, args=(fuse,))
        other.start()
        other.join()


def a_reply(seed: int) -> Callable[[CompletionRequest], FakeReply]:
    def answer(request: CompletionRequest) -> FakeReply:
        draw = random.Random(f"{seed} {msgspec.json.encode(request.messages)!r}")
        return draw.choice(FAILURES) if draw.random() < 0.1 else runs.reply(request)

    return answer


def a_job(folder: Path, seed: int, output: str) -> Job:
    rng = random.Random(seed)
    pipeline = rng.choice(PIPELINES)
    given = {"uri": f"file://{folder}/in/*.jsonl", "idColumn": "id"}
    runs.write_documents(folder / "in", rng.choice([1, 4, 9]), per_file=3)
    spec = runs.a_run(
        folder,
        pipeline=pipeline,
        input=None if "openQA" in pipeline[0] else given,
        shards={"count": rng.randint(1, 3)},
        models=[runs.a_model("http://127.0.0.1:9/v1", maxAttempts=2)],
        failurePolicy={"maxFailedRecordsPercent": 100},
        output={
            "uri": f"file://{folder}/{output}",
            "rowsPerPart": rng.choice([1, 2, 5, 100]),
        },
    )
    return Job(spec, rng, folder / output)


def contents(job: Job) -> tuple[str, list[tuple[str, str, str]], dict[str, int]]:
    """Return what a finished run has made, having compared its counts with its files."""
    tally = runs.read_manifest(job.output).tally
    rows, failed = runs.read_rows(job.output), runs.read_errors(job.output)
    assert (tally.accepted, tally.failed) == (len(rows), len(failed))
    assert len({row["id"] for row in rows}) == len(rows)
    assert not [path for path in job.output.rglob("*/*.log") if path.is_file()]
    assert not [path for path in job.output.rglob("staging/*") if path.is_file()]
    fields = ("done", "failed_roots", "accepted", "filtered", "failed", "requests_ok")
    counts = {field: getattr(tally, field) for field in fields}
    names = sorted((row["id"], row["kind"], row["message"]) for row in failed)
    return runs.digest(rows), names, counts


@pytest.mark.parametrize("seed", SEEDS)
def test_disturbed_job_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    client = FakeChatClient(a_reply(seed))
    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: client)
    calm = a_job(tmp_path, seed, "calm")
    assert calm.run(Fuse())
    job = a_job(tmp_path, seed, "out")
    for _ in range(3):
        job.disturb(calm.operations)
    assert job.run(Fuse())
    assert contents(job) == contents(calm)
