"""A chat client without a model, for tests of stages, pipelines and plugins. No I/O.

    client = FakeChatClient("Paris.")                           # always the same
    client = FakeChatClient({"capital of France": "Paris."})    # by a text of the last message
    client = FakeChatClient(lambda request: my_reply(request))  # a pure function of the request

A reply that is a `ClientError` is raised. `requests` holds what was asked, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind

FakeReply = str | Completion | ClientError
FakeScript = FakeReply | Mapping[str, FakeReply] | Callable[[CompletionRequest], FakeReply]


class FakeChatClient:
    """A `ChatClient` whose completions are a pure function of the request.

    Words stand in for tokens in the usage that it reports.
    """

    def __init__(
        self, script: FakeScript, *, json_schema: bool = True, schema_bounds: bool = True
    ) -> None:
        self._script = script
        self._capabilities = Capabilities(json_schema, ("fake",), schema_bounds)
        self.requests: list[CompletionRequest] = []
        self.closed = False

    async def complete(self, request: CompletionRequest) -> Completion:
        """Return the scripted reply to `request`, or raise it."""
        self.requests.append(request)
        reply = self._reply(request)
        if isinstance(reply, ClientError):
            raise reply
        if isinstance(reply, Completion):
            return reply
        prompt_words = sum(len(message.content.split()) for message in request.messages)
        return Completion(
            text=reply,
            finish_reason="stop",
            usage=TokenUsage(prompt_words, len(reply.split())),
            model="fake",
        )

    async def probe(self) -> Capabilities:
        """Return what the constructor was told."""
        return self._capabilities

    async def close(self) -> None:
        """Remember that it was called."""
        self.closed = True

    def _reply(self, request: CompletionRequest) -> FakeReply:
        script = self._script
        if isinstance(script, str | Completion | ClientError):
            return script
        if not isinstance(script, Mapping):
            return script(request)
        prompt = request.messages[-1].content
        for text, reply in script.items():
            if text in prompt:
                return reply
        return ClientError(ErrorKind.BAD_REQUEST, f"no scripted reply for the prompt {prompt!r}")
