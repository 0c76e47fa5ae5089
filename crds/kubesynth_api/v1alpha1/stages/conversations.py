"""Stages that make conversations of an opening line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, ColumnName
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.base import LlmStage, Prompts, PromptSlot, RoleName


class AssistantPrompt(ApiModel):
    """What the assistant of a conversation is told."""

    system: PromptText | None = Field(default=None, description="Replaces the system prompt.")


class ConversationPrompts(ApiModel):
    """Prompts that replace those of a conversation."""

    assistant: AssistantPrompt = Field(
        default_factory=AssistantPrompt, description="Variables: document, columns."
    )
    user_turn: Prompts = Field(
        default_factory=Prompts,
        description="For the user's next message. Must use history.",
    )


class Conversation(LlmStage):
    """What conversations have in common: an opening line, an assistant, and somebody who asks."""

    question_column: ColumnName = Field(
        default="question", description="Column that holds the opening line."
    )
    messages_column: ColumnName = Field(
        default="messages", description="Column for the list of role and content (JSON)."
    )
    use_document: bool = Field(
        default=True, description="Show the assistant the document, if the record has one."
    )
    persona: Literal["Normal", "Complex", "Concise"] = Field(
        default="Normal",
        description=(
            "The user. Normal goes on in the tone of the opening line, Complex asks difficult and "
            "varied follow-ups, Concise is critical and brief."
        ),
    )
    persona_text: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None,
        description="A user of your own, in place of `persona`: You are a nurse who ...",
    )
    user_model: RoleName | None = Field(
        default=None, description="Role of the model that speaks for the user; else `model`."
    )
    user_sampling: SamplingParameters | None = Field(
        default=None, description="How the user's messages are drawn; wins over the model's."
    )
    prompts: ConversationPrompts = Field(
        default_factory=ConversationPrompts,
        description="Prompts that replace the built-in ones.",
    )

    def roles(self) -> Mapping[str, RoleName | None]:
        """Return the assistant's model and the user's."""
        return {"model": self.model, "userModel": self.user_model or self.model}

    def samplings(self) -> Mapping[str, SamplingParameters | None]:
        """Return both of them; several completions are for the assistant's first answer alone."""
        return {"model": self.sampling, "userModel": self.user_sampling}

    def needs(self) -> Mapping[str, str]:
        """Return the opening line's column."""
        return {"questionColumn": self.question_column}

    def adds(self) -> Mapping[str, str]:
        """Return the conversation and its length."""
        return {"messagesColumn": self.messages_column, "[turns]": "turns"}

    def slots(self) -> tuple[PromptSlot, ...]:
        """Return the assistant's place and the user's."""
        assistant = Prompts(system=self.prompts.assistant.system)
        variables = frozenset({"history", "persona", "persona_text", "turn"})
        return (
            PromptSlot("prompts.assistant", assistant, frozenset({"document"})),
            PromptSlot("prompts.userTurn", self.prompts.user_turn, variables, "history"),
        )


class Dialogue(Conversation):
    """A conversation of several turns, of which a model plays both sides."""

    user_turns: int = Field(
        default=3, ge=1, le=50, description="Messages of the user, the opening line included."
    )
    max_context_tokens: int | None = Field(
        default=None,
        ge=16,
        le=10_000_000,
        description=(
            "End the conversation when it has so many tokens, as the server counts them. One that "
            "the server finds too long for its context ends, too."
        ),
    )
    max_context_characters: int | None = Field(
        default=None, ge=64, le=40_000_000, description="The same in characters."
    )

    def adds(self) -> Mapping[str, str]:
        """Return the conversation, its length, and why it ended."""
        return {**super().adds(), "[ended]": "ended_by"}

    def takes_choices(self) -> bool:
        """Return True: each first answer begins a conversation of its own."""
        return True


class TwoTurnPrompt(Conversation):
    """Opening line, answer, follow-up: a prompt for preference data that ends with the user."""

    def takes_choices(self) -> bool:
        """Return True: each first answer makes a prompt of its own."""
        return True
