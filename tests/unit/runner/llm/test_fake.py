from __future__ import annotations

import pytest

from kubesynth_runner.llm.base import ChatClient, CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient


def _ask(prompt: str) -> CompletionRequest:
    return CompletionRequest((Message("user", prompt),))


async def test_fake_answers_by_a_text_of_the_prompt_and_keeps_the_requests() -> None:
    fake = FakeChatClient({"capital of France": "Paris.", "capital of Peru": "Lima."})
    client: ChatClient = fake
    completion = await client.complete(_ask("What is the capital of Peru?"))
    assert (completion.text, completion.usage.prompt_tokens) == ("Lima.", 6)
    assert fake.requests == [_ask("What is the capital of Peru?")]


async def test_fake_raises_a_scripted_error() -> None:
    fake = FakeChatClient(lambda request: ClientError(ErrorKind.RATE_LIMITED, "slow down"))
    with pytest.raises(ClientError, match="slow down"):
        await fake.complete(_ask("x"))


async def test_fake_without_a_fitting_reply_says_so() -> None:
    with pytest.raises(ClientError, match="no scripted reply for the prompt 'x'"):
        await FakeChatClient({"y": "z"}).complete(_ask("x"))
