"""A `StageLlm` that gives one answer after the other, for tests of stages."""

from __future__ import annotations

from collections.abc import Iterable

from kubesynth_runner.llm.base import Completion, JsonSchemaFormat, Message, TokenUsage


class ScriptedLlm:
    """Answers with the given texts or completions, and remembers what it was asked.

    An exception among the answers is raised.
    """

    def __init__(
        self, answers: Iterable[str | Completion | Exception], *, json_schema: bool = False
    ) -> None:
        self._answers = list(answers)
        self._json_schema = json_schema
        self.asked: list[tuple[Message, ...]] = []
        self.formats: list[JsonSchemaFormat | None] = []
        self.fields: list[str] = []

    @property
    def json_schema(self) -> bool:
        """Whether it claims to be held to a schema."""
        return self._json_schema

    async def complete(
        self, messages: tuple[Message, ...], response_format: JsonSchemaFormat | None = None
    ) -> Completion:
        """Return the next answer."""
        self.asked.append(messages)
        self.formats.append(response_format)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Completion):
            return answer
        return Completion(answer, "stop", TokenUsage(), "fake")

    def of(self, field: str) -> ScriptedLlm:
        """Return this: all models of a stage answer from one script, in the order of the calls."""
        self.fields.append(field)
        return self

    def branches(self, count: int) -> list[ScriptedLlm]:
        """Return this for each: answers are given in the order in which they are asked for."""
        return [self] * count


def refusal(text: str = "I must not.") -> Completion:
    """Return a completion that refuses."""
    return Completion("", "stop", TokenUsage(), "fake", refusal=text)
