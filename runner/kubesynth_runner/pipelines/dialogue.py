"""`dialogue` and `twoTurnPrompt`: conversations of which models play both sides."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from kubesynth_api.v1alpha1.stages.base import Prompts
from kubesynth_api.v1alpha1.stages.conversations import Conversation, Dialogue, TwoTurnPrompt
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Completion, Message
from kubesynth_runner.llm.errors import ErrorKind
from kubesynth_runner.pipelines import conversation
from kubesynth_runner.pipelines.base import (
    Cost,
    ModelFailure,
    StageFailure,
    StageLlm,
    Step,
    Steps,
    accept_text,
    accept_whole,
    is_cut_off,
)
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate

CHARACTERS_PER_TOKEN = 4
# Of a usual message, for estimates.
MESSAGE_TOKENS = 150
# Why a conversation ended: it has all its turns, or the user's column says what came between.
Ending = Literal["UserTurns", "Refusal", "Loop", "ContextLimit", "CutOff"]


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How long a conversation may become."""

    user_turns: int
    tokens: int | None = None
    characters: int | None = None


@dataclasses.dataclass(slots=True)
class _Talk:
    """A conversation under way. `messages` are those of user and assistant, in turn."""

    system: tuple[Message, ...]
    messages: list[Message]
    ending: Ending | None = None

    def said_by(self, role: str) -> list[str]:
        return [message.content for message in self.messages if message.role == role]

    def end(self, why: Ending, *, without_question: bool = False) -> None:
        """Stop here; a question that has no answer is not part of it."""
        self.ending = why
        if without_question:
            self.messages.pop()


@dataclasses.dataclass(frozen=True, slots=True)
class ConversationStage:
    """Lets a user and an assistant talk, beginning with the record's opening line."""

    assistant: PromptTemplate
    user: PromptTemplate
    spec: Conversation
    document_column: str | None
    limits: Limits
    ends_with_user: bool = False

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The conversation, the number of the user's turns, and why it ended."""
        columns: dict[str, ColumnType] = {self.spec.messages_column: "json", "turns": "integer"}
        return columns if self.ends_with_user else {**columns, "ended_by": "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its conversation."""
        question = conversation.text_of(
            record.columns, self.spec.question_column, "question or opening line"
        )
        document = record.columns.get(self.document_column) if self.document_column else None
        *system, opening = self.assistant.render(
            {**record.columns, "question": question, "document": document}
        )
        talk = _Talk(tuple(system), [opening])
        await self._answer(talk, llm)
        for turn in range(2, self.limits.user_turns + 1):
            if talk.ending is not None:
                break
            if not await self._ask(talk, record, turn, llm.of("userModel")):
                break
            if not (self.ends_with_user and turn == self.limits.user_turns):
                await self._answer(talk, llm)
        yield self._columns(talk)

    def _columns(self, talk: _Talk) -> records.Columns:
        turns = len(talk.said_by("user"))
        made: records.Columns = {
            self.spec.messages_column: conversation.to_column(talk.messages),
            "turns": turns,
        }
        if not self.ends_with_user:
            return {**made, "ended_by": talk.ending or "UserTurns"}
        if talk.ending == "CutOff":
            raise StageFailure(
                "TruncatedCompletion",
                "a message was cut off; raise maxTokens in sampling and userSampling",
                conversation.render(talk.messages),
            )
        if turns < self.limits.user_turns:
            raise StageFailure(
                "NoFollowUp",
                f"the user has no follow-up ({talk.ending})",
                conversation.render(talk.messages),
            )
        return made

    async def _answer(self, talk: _Talk, llm: StageLlm) -> None:
        """Let the assistant answer, and see whether the conversation can go on after it."""
        is_first = len(talk.messages) == 1
        try:
            completion = await llm.complete((*talk.system, *talk.messages))
            text = accept_text(completion)
        except (StageFailure, ModelFailure) as failure:
            why = _ending(failure)
            if is_first or why is None:
                raise
            talk.end(why, without_question=True)
            return
        if conversation.repeats(text, talk.said_by("assistant")):
            talk.end("Loop", without_question=True)
            return
        talk.messages.append(Message("assistant", text))
        if conversation.is_refusal(text):
            talk.end("Refusal")
        elif is_cut_off(completion):
            talk.end("CutOff")
        elif self._is_full(talk, completion):
            talk.end("ContextLimit")

    async def _ask(self, talk: _Talk, record: records.Record, turn: int, llm: StageLlm) -> bool:
        """Add the user's next message; return whether there is one."""
        messages = self.user.render(
            {
                **record.columns,
                "history": conversation.render(talk.messages),
                "persona": self.spec.persona,
                "persona_text": self.spec.persona_text,
                "turn": turn,
            }
        )
        try:
            text = conversation.user_message(accept_whole(await llm.complete(messages)))
        except (StageFailure, ModelFailure) as failure:
            why = _ending(failure)
            if why is None:
                raise
            talk.end(why)
            return False
        if not text or conversation.is_refusal(text):
            talk.end("Refusal")
        elif conversation.repeats(text, talk.said_by("user")):
            talk.end("Loop")
        else:
            talk.messages.append(Message("user", text))
            return True
        return False

    def _is_full(self, talk: _Talk, completion: Completion) -> bool:
        limits = self.limits
        characters = sum(len(message.content) for message in (*talk.system, *talk.messages))
        if limits.characters is not None and characters >= limits.characters:
            return True
        if limits.tokens is None:
            return False
        # The usage of a request with several choices is that of all of them.
        counted = completion.usage.total_tokens if not completion.others else 0
        return (counted or characters / CHARACTERS_PER_TOKEN) >= limits.tokens


def _ending(failure: StageFailure | ModelFailure) -> Ending | None:
    """Return how a failure ends a conversation that has begun; None: it fails the record."""
    match failure.kind:
        case ErrorKind.REFUSAL | ErrorKind.EMPTY_COMPLETION:
            return "Refusal"
        case ErrorKind.CONTEXT_OVERFLOW:
            return "ContextLimit"
        case "TruncatedCompletion":
            return "CutOff"
    return None


def compile_dialogue(spec: Dialogue, context: CompileContext) -> Steps:
    """Return the step of a `dialogue`."""
    limits = Limits(spec.user_turns, spec.max_context_tokens, spec.max_context_characters)
    return _compile(spec, context, limits, {})


def compile_two_turn_prompt(spec: TwoTurnPrompt, context: CompileContext) -> Steps:
    """Return the step of a `twoTurnPrompt`."""
    return _compile(spec, context, Limits(2), {"ends_with_user": True})


def _compile(
    spec: Conversation, context: CompileContext, limits: Limits, more: Mapping[str, Any]
) -> Steps:
    has_document = spec.use_document and context.text_column != spec.question_column
    stage = ConversationStage(
        context.prompt(Prompts(system=spec.prompts.assistant.system), "dialogue_assistant.v1"),
        context.prompt(spec.prompts.user_turn, "dialogue_user.v1"),
        spec,
        context.text_column if has_document else None,
        limits,
        **more,
    )
    calls = 2 * limits.user_turns - (2 if more else 1)
    # The first prompt has no history, the last one nearly all of it.
    cost = Cost(calls=calls, history_tokens=calls * MESSAGE_TOKENS // 2)
    return Steps((Step(stage, fields=("model", "userModel"), cost=cost),))
