"""Between completions and the frames of the journal. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import xxhash

from kubesynth_runner.io.journal import CallFrame, ChoiceFrame
from kubesynth_runner.llm.base import Completion, TokenLogprobs, TokenUsage
from kubesynth_runner.llm.errors import ClientError


def from_outcome(
    outcome: tuple[Completion | ClientError, int],
    key: bytes,
    request_hash: bytes,
    ordinal: int,
    model_place: int,
) -> CallFrame:
    """Return the frame of a call that has ended, with the number of its attempts."""
    result, attempts = outcome
    if isinstance(result, ClientError):
        return CallFrame(
            key,
            request_hash,
            ordinal,
            str(result),
            None,
            0,
            0,
            "",
            attempts,
            failure=result.kind.value,
            status_code=result.status_code,
            body=result.body,
            model_place=model_place,
        )
    return CallFrame(
        key,
        request_hash,
        ordinal,
        result.text,
        result.finish_reason,
        result.usage.prompt_tokens,
        result.usage.completion_tokens,
        result.model,
        attempts,
        reasoning=result.reasoning,
        refusal=result.refusal,
        logprobs=result.logprobs,
        others=[
            ChoiceFrame(
                choice.text,
                choice.finish_reason,
                choice.reasoning,
                choice.refusal,
                choice.logprobs,
            )
            for choice in result.others
        ],
        tokens_estimated=result.usage.estimated,
        model_place=model_place,
    )


def of_lost(
    answer: Completion, name: str, call: tuple[bytes, bytes, int], model_place: int
) -> CallFrame:
    """Return the frame of an answer that is of no use to its call, but has been paid for.

    `call` is its key, request hash and ordinal. Answers of equal `name` to a call are the same one.
    """
    key, request_hash, ordinal = call
    return CallFrame(
        xxhash.xxh3_128_digest(b"lost\0" + key + name.encode()),
        request_hash,
        ordinal,
        "",
        answer.finish_reason,
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
        answer.model,
        1,
        tokens_estimated=answer.usage.estimated,
        model_place=model_place,
        lost_by=key,
    )


def of_choice(frame: CallFrame, number: int) -> CallFrame | None:
    """Return a frame with its choice `number` in the first one's place, None if there is none."""
    if number == 0:
        return frame
    if number > len(frame.others):
        return None
    choice = frame.others[number - 1]
    return msgspec.structs.replace(
        frame,
        text=choice.text,
        finish_reason=choice.finish_reason,
        reasoning=choice.reasoning,
        refusal=choice.refusal,
        logprobs=choice.logprobs,
    )


def to_completion(frame: CallFrame) -> Completion:
    """Return the first choice of a frame as a stage sees it."""
    return Completion(
        frame.text,
        frame.finish_reason,
        TokenUsage(frame.prompt_tokens, frame.completion_tokens, frame.tokens_estimated),
        frame.model,
        frame.reasoning,
        frame.refusal,
        frame.logprobs,
    )


def logprobs_row(logprobs: TokenLogprobs | None) -> dict[str, Any] | None:
    """Return log probabilities as a row's provenance has them."""
    if logprobs is None:
        return None
    top = logprobs.top
    return {
        "tokens": logprobs.tokens,
        "logprobs": logprobs.logprobs,
        "top": top and [[{"token": token, "logprob": value} for token, value in at] for at in top],
    }
