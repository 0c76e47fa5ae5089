"""A whole run in one process: what its shards have in common."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.runner_contract import ExitCode, ProgressReport
from kubesynth_runner import clients
from kubesynth_runner import run as runner
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.llm.base import Completion, CompletionRequest, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import runs

DOCUMENTS, SHARDS = 80, 4
TOKENS_PER_CALL = 300


def answer(request: CompletionRequest) -> Completion | ClientError:
    """Refuse the last document of each shard: one too many."""
    last = DOCUMENTS // SHARDS
    if any(f"Document {last * n - 1} " in request.messages[-1].content for n in range(SHARDS + 1)):
        return ClientError(ErrorKind.BAD_REQUEST, "not this one", status_code=400)
    return Completion("fine", "stop", TokenUsage(200, 100), "fake")


@pytest.mark.parametrize(
    ("limits", "calls"),
    [
        pytest.param({"budget": {"tokens": 9000}}, 30, id="budget"),
        pytest.param({"target": {"acceptedRecords": 30}}, 30, id="target"),
    ],
)
async def test_what_a_failed_shard_has_used_counts_for_those_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any], calls: int
) -> None:
    asked: list[Completion] = []

    def reply(request: CompletionRequest) -> Completion | ClientError:
        made = answer(request)
        asked.extend([made] if isinstance(made, Completion) else [])
        return made

    monkeypatch.setattr(clients, "OpenAIChatClient", lambda _endpoint: FakeChatClient(reply))
    spec = runs.a_run(
        tmp_path,
        documents=DOCUMENTS,
        models=[runs.a_model("http://127.0.0.1:9/v1", concurrency=1)],
        pipeline=[{"prompt": {"user": {"inline": "{{text}}"}, "output": {"column": "a"}}}],
        shards={"count": SHARDS, "parallelism": 1},
        failurePolicy={"maxFailedShards": SHARDS, "maxFailedRecordsPercent": 0},
        **limits,
    )
    reports: list[ProgressReport] = []
    outcome = await runner.run_local(
        spec,
        RunEnvironment(Mounts(), writer="test"),
        on_progress=reports.append,
        stop=asyncio.Event(),
    )
    assert outcome.exit_code is ExitCode.POISONED_SHARD
    assert calls <= len(asked) <= calls + 2
    assert runs.read_manifest(tmp_path / "out").ended in ("BudgetSpent", "TargetReached")
    totals = reports[-1].totals
    assert totals.records.accepted == len(runs.read_rows(tmp_path / "out")) == len(asked)
    assert totals.tokens.prompt + totals.tokens.completion == TOKENS_PER_CALL * len(asked)
