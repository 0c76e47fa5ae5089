"""Measuring requests where tokens or money are limited: reserved before, settled after."""

from __future__ import annotations

import dataclasses

import msgspec

from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.purse import Purse, Reservation
from kubesynth_runner.llm.base import Choice, Completion, CompletionRequest, TokenUsage


@dataclasses.dataclass(slots=True)
class Metered:
    """A request that has been let through, until it is settled."""

    gate: Gate
    purse: Purse | None
    reservation: Reservation | None
    characters: int
    reserved_tokens: float
    used: TokenUsage = dataclasses.field(default_factory=TokenUsage)
    answers: int = 0

    def pay(self, completion: Completion, answers: int = 1) -> Completion:
        """Take the server's count of the answer, or a guess where it does not count.

        A server that says nothing must not look like one that costs nothing.
        """
        usage = completion.usage
        estimator = self.gate.estimator
        if usage.total_tokens == 0:
            choices: tuple[Completion | Choice, ...] = (completion, *completion.others)
            text = sum(len(choice.text) + len(choice.reasoning or "") for choice in choices)
            prompt = round(estimator.prompt_tokens(self.characters))
            usage = TokenUsage(prompt, round(estimator.prompt_tokens(text)), estimated=True)
            completion = msgspec.structs.replace(completion, usage=usage)
        else:
            estimator.learn(self.characters, usage.prompt_tokens, usage.completion_tokens)
        self.used, self.answers = usage, answers
        return completion

    def close(self) -> None:
        """Settle, with nothing if there was no answer."""
        self.gate.settle(self.reserved_tokens, self.used.total_tokens)
        if self.purse is not None and self.reservation is not None:
            self.purse.settle(
                self.reservation,
                self.used.prompt_tokens,
                self.used.completion_tokens,
                self.answers,
            )


async def enter(gate: Gate, role: str, purse: Purse | None, request: CompletionRequest) -> Metered:
    """Wait for money, then for a slot.

    Raises:
        StoppedError: the process is stopping.
    """
    characters = sum(len(message.content) for message in request.messages)
    limit = request.sampling.get("max_completion_tokens") or request.sampling.get("max_tokens")
    if limit is not None:
        limit *= request.sampling.get("n") or 1
    prompt = gate.estimator.prompt_tokens(characters)
    tokens = gate.estimator.tokens(characters, limit)
    reservation = None
    if purse is not None:
        reservation = await purse.reserve(role, prompt, tokens - prompt)
    try:
        await gate.enter(tokens)
    except BaseException:
        if purse is not None and reservation is not None:
            purse.settle(reservation, 0, 0)
        raise
    return Metered(gate, purse, reservation, characters, tokens)
