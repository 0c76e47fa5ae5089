"""Counting records, tokens and requests: the same counters in memory, on disk and on the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kubesynth_api.runner_contract import (
    FAILURE_MESSAGE_CHARACTERS,
    FAILURES_TOLD,
    Failures,
    RecordCounts,
    RequestCounts,
    TokenCounts,
    Totals,
)
from kubesynth_api.v1alpha1.spending import Price

TOKENS_PER_PRICE = 1_000_000.0
# Of the message that stands for a kind of failure.
_MESSAGE_MAX_CHARACTERS = 300


def told(failures: Sequence[tuple[str, int, str]]) -> tuple[Failures, ...]:
    """Return kinds of failures, the commonest first, as the operator reads them."""
    return tuple(
        Failures(kind=kind, count=count, message=_sendable(message)[:FAILURE_MESSAGE_CHARACTERS])
        for kind, count, message in failures[:FAILURES_TOLD]
    )


def _sendable(text: str) -> str:
    """Return text without what is no character: records may hold halves of some."""
    return text.encode("utf-8", "replace").decode()


def cost_usd(price: Price | None, prompt_tokens: float, completion_tokens: float) -> float:
    """Return what tokens cost in US dollars; without a price, nothing."""
    if price is None:
        return 0.0
    total = (
        prompt_tokens * price.prompt_per_million + completion_tokens * price.completion_per_million
    )
    return total / TOKENS_PER_PRICE


class Tally(msgspec.Struct, rename="camel"):
    """Counters that add up field by field.

    `done` and `failed_roots` count input records; `accepted`, `filtered` and `failed` count what
    became of the records that the pipeline made of them. `by_model` has prompt and completion
    tokens by the model's role, where models have prices. `estimated_tokens` are those of both kinds
    that no server has counted. `by_failure` has, by the kind of failure, how many of `failed` are
    of it and what one of them says: the message that sorts first, so that order does not matter.
    """

    done: int = 0
    failed_roots: int = 0
    accepted: int = 0
    filtered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests_ok: int = 0
    requests_retried: int = 0
    requests_rate_limited: int = 0
    estimated_tokens: int = 0
    by_model: dict[str, tuple[int, int]] | msgspec.UnsetType = msgspec.UNSET
    by_failure: dict[str, tuple[int, str]] | msgspec.UnsetType = msgspec.UNSET

    def add(self, other: Tally) -> None:
        """Add the counters of `other` to these."""
        # Written out: this is done several times for every record.
        self.done += other.done
        self.failed_roots += other.failed_roots
        self.accepted += other.accepted
        self.filtered += other.filtered
        self.failed += other.failed
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.estimated_tokens += other.estimated_tokens
        self.requests_ok += other.requests_ok
        self.requests_retried += other.requests_retried
        self.requests_rate_limited += other.requests_rate_limited
        if other.by_model is not msgspec.UNSET:
            for role, (prompt, completion) in other.by_model.items():
                self.charge(role, prompt, completion)
        if other.by_failure is not msgspec.UNSET:
            for kind, (count, message) in other.by_failure.items():
                self.note_failure(kind, message, count)

    def note_failure(self, kind: str, message: str, count: int = 1) -> None:
        """Count failed records of a kind; `failed` counts them besides."""
        if self.by_failure is msgspec.UNSET:
            self.by_failure = {}
        message = message[:_MESSAGE_MAX_CHARACTERS]
        before, known = self.by_failure.get(kind, (0, message))
        self.by_failure[kind] = (before + count, min(known, message))

    def failures(self) -> list[tuple[str, int, str]]:
        """Return kind, count and a message of what failed, the commonest first."""
        if self.by_failure is msgspec.UNSET:
            return []
        found = [(kind, count, message) for kind, (count, message) in self.by_failure.items()]
        return sorted(found, key=lambda one: (-one[1], one[0]))

    def charge(self, role: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count tokens as those of a model, besides the sums over all of them."""
        if self.by_model is msgspec.UNSET:
            self.by_model = {}
        prompt, completion = self.by_model.get(role, (0, 0))
        self.by_model[role] = (prompt + prompt_tokens, completion + completion_tokens)

    def cost_usd(self, prices: Mapping[str, Price]) -> float | None:
        """Return what the counted tokens cost; None without prices."""
        if not prices:
            return None
        if self.by_model is msgspec.UNSET:
            return 0.0
        return sum(cost_usd(prices.get(role), *used) for role, used in self.by_model.items())

    def copy(self) -> Tally:
        """Return an equal tally of its own."""
        total = Tally()
        total.add(self)
        return total

    def minus(self, other: Tally) -> Tally:
        """Return the difference; kinds of failures are left out."""
        rest = Tally(
            **{
                field: getattr(self, field) - getattr(other, field)
                for field in self.__struct_fields__
                if field not in ("by_model", "by_failure")
            }
        )
        for tally, sign in ((self, 1), (other, -1)):
            if tally.by_model is not msgspec.UNSET:
                for role, (prompt, completion) in tally.by_model.items():
                    rest.charge(role, sign * prompt, sign * completion)
        return rest

    def to_totals(self, input_records: int, prices: Mapping[str, Price] | None = None) -> Totals:
        """Return the counters as the operator reads them."""
        cost = self.cost_usd(prices or {})
        return Totals(
            records=RecordCounts(
                in_=input_records,
                done=self.done,
                accepted=self.accepted,
                filtered=self.filtered,
                failed=self.failed,
            ),
            tokens=TokenCounts(
                prompt=self.prompt_tokens,
                completion=self.completion_tokens,
                estimated=self.estimated_tokens,
            ),
            requests=RequestCounts(
                ok=self.requests_ok,
                retried=self.requests_retried,
                rate_limited=self.requests_rate_limited,
            ),
            cost_usd=None if cost is None else round(cost, 6),
        )
