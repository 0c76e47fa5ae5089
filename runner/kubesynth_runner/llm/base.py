"""What a stage asks of a model and what it gets back, whatever the wire format.

Structs where there is one for every call: they take a fifth of the time of frozen dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

Role = Literal["system", "user", "assistant"]
# Reasons to end in the middle: OpenAI's, and that of Mistral's API where the context is full.
CUT_OFF = frozenset({"length", "model_length"})


class Message(msgspec.Struct, frozen=True, gc=False):
    """One turn of a conversation."""

    role: Role
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class JsonSchemaFormat:
    """A completion must be a JSON document that fits `schema` (JSON Schema).

    `bounds_are_told`: the prompt also says how long lists are, and from where to where numbers go.
    `strict`: the server is asked to refuse a schema that it cannot hold a completion to.
    """

    name: str
    schema: Mapping[str, Any]
    bounds_are_told: bool = False
    strict: bool = False


class CompletionRequest(msgspec.Struct, frozen=True, gc=False):
    """One chat completion.

    `sampling` holds wire fields of the OpenAI chat completions API (`temperature`, `top_p`,
    `max_tokens`, `seed`, `stop`, ...), `extra_body` whatever else a server understands; the latter
    wins. Two requests with equal fields produce byte-identical request bodies.
    """

    messages: tuple[Message, ...]
    sampling: Mapping[str, Any] = msgspec.field(default_factory=dict)
    response_format: JsonSchemaFormat | None = None
    extra_body: Mapping[str, Any] = msgspec.field(default_factory=dict)


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one completion as the server counted them; 0 where it did not say.

    `estimated`: the server cannot say, and these are the client's own estimate.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class TokenLogprobs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How probable each token of a completion was: natural logarithms, one per token.

    `top` has the most probable tokens at each place, where they were asked for.
    """

    tokens: list[str]
    logprobs: list[float]
    top: list[list[tuple[str, float]]] | None = None


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One of several completions of one prompt (`n`). Blank text is the model's own."""

    text: str
    finish_reason: str | None
    reasoning: str | None = None
    refusal: str | None = None
    logprobs: TokenLogprobs | None = None


class Completion(msgspec.Struct, frozen=True, gc=False):
    """An answer: its first choice, and the `others` where more were asked for.

    `text` is never None: an answer without content is a `ClientError` of kind EMPTY_COMPLETION,
    unless the model refused, which is `refusal`. `reasoning` is kept apart from the text. `usage`
    is that of all choices together.
    """

    text: str
    finish_reason: str | None
    usage: TokenUsage
    model: str
    reasoning: str | None = None
    refusal: str | None = None
    logprobs: TokenLogprobs | None = None
    others: tuple[Choice, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server turned out to understand.

    `json_schema`: it holds a completion to a JSON schema. `schema_bounds`: also to one that bounds
    numbers and lists, with `strict`.
    """

    json_schema: bool
    models: tuple[str, ...] = ()
    schema_bounds: bool = True


class ChatClient(Protocol):
    """A connection to one model on one endpoint. One instance per event loop."""

    async def complete(self, request: CompletionRequest) -> Completion:
        """Send one request, once: retries and pacing are the engine's.

        Raises:
            ClientError: the request failed; its `kind` says what may be done about it.
        """
        ...

    async def probe(self) -> Capabilities:
        """Ask the server what it serves and understands; costs at most one tiny completion.

        Raises:
            ClientError: the server did not answer, or does not serve the model.
        """
        ...

    async def close(self) -> None:
        """Close connections. Safe to repeat."""
        ...
