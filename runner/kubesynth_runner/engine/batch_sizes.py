"""How large a model's batches may be. Pure.

An account has a queue for each model, of so many tokens of prompts that wait; a batch that does not
fit is refused as a whole. It may be full of other batches, ours among them, and has room again when
those have ended. So a batch is too large only if nothing of ours is in the queue and still none is
let in: then the next ones are half as large. After rounds without a refusal they grow again.
"""

from __future__ import annotations

import dataclasses

# OpenAI's limits are 50,000 requests and 200 MB in a file.
MAX_REQUESTS = 50_000
MAX_BYTES = 190_000_000
# About 32,000 tokens, where the smallest queues of any account hold 90,000: smaller batches only
# mean more of them, and these are limited, too.
LEAST_BYTES = 128 << 10


@dataclasses.dataclass(slots=True)
class BatchSize:
    """The size of one model's batches. A round is what is sent off, and awaited, together."""

    max_requests: int = MAX_REQUESTS
    max_bytes: int = MAX_BYTES
    least_bytes: int = LEAST_BYTES
    # Requests in a batch that are enough once it has `least_bytes`.
    requests: int = dataclasses.field(init=False)
    _largest_refused: int = dataclasses.field(default=0, init=False)
    _was_let_in: bool = dataclasses.field(default=False, init=False)

    def __post_init__(self) -> None:
        self.requests = self.max_requests

    def has_room(self, requests: int, size_bytes: int, line_bytes: int) -> bool:
        """Return whether a file of that many requests and bytes may have another line."""
        if requests >= self.max_requests or size_bytes + line_bytes > self.max_bytes:
            return False
        return requests < self.requests or size_bytes < self.least_bytes

    def on_let_in(self) -> None:
        """Note that the queue had room for a batch, whatever became of it."""
        self._was_let_in = True

    def on_full_queue(self, requests: int) -> None:
        """Note that a batch of that many requests was refused because the queue is full."""
        self._largest_refused = max(self._largest_refused, requests)

    def end_round(self) -> bool:
        """Draw the conclusions from a round; return whether all of it met a full queue."""
        refused, was_let_in = self._largest_refused, self._was_let_in
        self._largest_refused, self._was_let_in = 0, False
        if refused and not was_let_in:
            self.requests = max(1, min(self.requests, refused) // 2)
            return True
        if was_let_in and not refused:
            self.requests = min(self.max_requests, self.requests * 2)
        return False
