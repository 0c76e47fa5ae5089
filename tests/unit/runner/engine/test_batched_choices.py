"""Several choices of a prompt through a batch API: some of them take a batch more than others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

from kubesynth_api.v1alpha1.stages.records import PromptOutput
from kubesynth_runner import records
from kubesynth_runner.engine.calls import StageBinding
from kubesynth_runner.engine.scheduler import BoundStage, Scheduler
from kubesynth_runner.io.shard_output import RootOutcome
from kubesynth_runner.io.source import RootInput
from kubesynth_runner.pipelines.prompt import PromptStage
from kubesynth_runner.pipelines.templates import PromptTemplate
from kubesynth_testing import virtual_time
from kubesynth_testing.batch_desk import DONE, Desk, FakeBatches

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
RECORD = records.Record("r", None, "r", (), {"text": "t"}, records.Source("u", 1))


class Choosing(FakeBatches):
    """Answers with two choices, the first of which is no JSON until it is asked to mend it."""

    async def read_lines(self, file_id: str) -> AsyncIterator[bytes]:
        for line in self.inputs[file_id]:
            messages = line["body"]["messages"]
            texts = [f"about {messages[0]['content']}"]
            if len(messages) > 1:
                texts = ['{"a": 1}']
            elif line["body"].get("n"):
                texts = ["nonsense", '{"a": 2}']
            choices = [
                {"index": number, "message": {"content": text}, "finish_reason": "stop"}
                for number, text in enumerate(texts)
            ]
            response = {"status_code": 200, "body": {"choices": choices}}
            yield json.dumps({"custom_id": line["custom_id"], "response": response}).encode()


def test_choice_that_is_answered_later_keeps_its_place_among_the_others(tmp_path: Path) -> None:
    """Each is a record named by its place: what is asked for one must not be another's answer."""

    async def main() -> list[RootOutcome]:
        desk, outcomes = Desk(tmp_path, Choosing()), list[RootOutcome]()
        output = PromptOutput.model_validate({"type": "JSON", "jsonSchema": SCHEMA})
        model = desk.binding.connection
        stages = [
            BoundStage(
                PromptStage(PromptTemplate.compile("{{ text }}", None), output),
                StageBinding(0, "s", model, {"n": 2}, None),
            ),
            BoundStage(
                PromptStage(PromptTemplate.compile("{{ a }}", None), PromptOutput(column="said")),
                StageBinding(1, "t", model, {}, None),
            ),
        ]

        async def deliver(outcome: RootOutcome) -> None:
            outcomes.append(outcome)

        while not outcomes:
            await Scheduler(stages, desk.caller, iter([RootInput(0, RECORD)]), deliver).run()
            await desk.caller.send_off()
            await desk.caller.settle()
            desk.journal.reopen(DONE)
        desk.close()
        return outcomes

    (outcome,) = virtual_time.run(main())
    rows = sorted(outcome.rows, key=lambda row: row.path)
    assert [(row.columns["a"], row.columns["said"]) for row in rows] == [
        (1, "about 1"),
        (2, "about 2"),
    ]
    # The prompt, what mends its first choice, and one question about each.
    assert outcome.tally.requests_ok == 4
