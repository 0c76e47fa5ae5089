"""Counting records, tokens and requests: the same counters in memory, on disk and on the wire."""

from __future__ import annotations

import msgspec

from kubesynth_api.runner_contract import RecordCounts, RequestCounts, TokenCounts, Totals


class Tally(msgspec.Struct, rename="camel"):
    """Counters that add up field by field.

    `done` and `failed_roots` count input records; `accepted`, `filtered` and `failed` count what
    became of the records that the pipeline made of them.
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
        self.requests_ok += other.requests_ok
        self.requests_retried += other.requests_retried
        self.requests_rate_limited += other.requests_rate_limited

    def copy(self) -> Tally:
        """Return an equal tally of its own."""
        total = Tally()
        total.add(self)
        return total

    def minus(self, other: Tally) -> Tally:
        """Return the difference."""
        return Tally(
            **{
                field: getattr(self, field) - getattr(other, field)
                for field in self.__struct_fields__
            }
        )

    def to_totals(self, input_records: int) -> Totals:
        """Return the counters as the operator reads them."""
        return Totals(
            records=RecordCounts(
                in_=input_records,
                done=self.done,
                accepted=self.accepted,
                filtered=self.filtered,
                failed=self.failed,
            ),
            tokens=TokenCounts(prompt=self.prompt_tokens, completion=self.completion_tokens),
            requests=RequestCounts(
                ok=self.requests_ok,
                retried=self.requests_retried,
                rate_limited=self.requests_rate_limited,
            ),
        )
