"""What a shard may spend and what it has spent: tokens, US dollars and accepted records.

Caps are cumulative over all attempts at the shard. At a cap nothing new is begun; what is under way
ends, and then everybody waits for a higher cap. A request reserves what it seems to cost, so that
the last ones begin one after the other and not all at once: a cap is overshot by what the requests
under way were underestimated, and by one request at least.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Mapping

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner import errors
from kubesynth_runner.tally import Tally, cost_usd


@dataclasses.dataclass(frozen=True, slots=True)
class Caps:
    """Upper bounds; None where there is none. `records` are accepted output records."""

    tokens: int | None = None
    usd: float | None = None
    records: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Reservation:
    """What a request that is about to be sent may cost."""

    role: str
    tokens: float
    usd: float


class Purse:
    """The purse of one shard. One instance per event loop; all models draw on it."""

    def __init__(self, caps: Caps, prices: Mapping[str, Price], paid: Tally | None = None) -> None:
        """`paid` has the tokens and answers of earlier attempts; it belongs to the purse."""
        self.caps = caps
        self.paid = paid or Tally()
        # Output records accepted, and input records done, that became these.
        self.accepted = 0
        self.done = 0
        self.tokens = self.paid.prompt_tokens + self.paid.completion_tokens
        self.usd = self.paid.cost_usd(prices) or 0.0
        # Called whenever there may be room again.
        self.on_room: Callable[[], None] = lambda: None
        self._prices = prices
        self._reserved_tokens = 0.0
        self._reserved_usd = 0.0
        self._under_way = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._stopped = False

    def charge(
        self, role: str, prompt_tokens: int, completion_tokens: int, answers: int = 1
    ) -> None:
        """Count tokens of an answer, or of several; of none that was of use with `answers` 0."""
        self.tokens += prompt_tokens + completion_tokens
        self.paid.prompt_tokens += prompt_tokens
        self.paid.completion_tokens += completion_tokens
        self.paid.requests_ok += answers
        if self._prices:
            self.paid.charge(role, prompt_tokens, completion_tokens)
            self.usd += cost_usd(self._prices.get(role), prompt_tokens, completion_tokens)

    @property
    def limits_money(self) -> bool:
        """Whether tokens or dollars are limited, so that every request has to be measured."""
        return self.caps.tokens is not None or self.caps.usd is not None

    @property
    def spent_up(self) -> Reason | None:
        """The cap that has been reached, as the reason that a job would end with."""
        tokens, usd, records = self.caps.tokens, self.caps.usd, self.caps.records
        if tokens is not None and self.tokens + self._reserved_tokens >= tokens:
            return Reason.BUDGET_SPENT
        if usd is not None and self.usd + self._reserved_usd >= usd:
            return Reason.BUDGET_SPENT
        if records is not None and self.accepted >= records:
            return Reason.TARGET_REACHED
        return None

    @property
    def is_waiting(self) -> bool:
        """Whether requests wait for a higher cap and none is under way."""
        return bool(self._waiters) and not self._under_way

    @property
    def committed(self) -> Caps:
        """The least caps that can still be kept: what is spent, and reserved for what goes on."""
        return Caps(
            self.tokens + math.ceil(self._reserved_tokens),
            self.usd + self._reserved_usd,
            self.accepted,
        )

    def may_begin(self, live_roots: int) -> bool:
        """Tell whether another input record may be begun beside those under way.

        These are expected to become as many rows each as the ones before them.
        """
        if self._lacks_money():
            return False
        records = self.caps.records
        if records is None:
            return True
        rows_per_root = self.accepted / self.done if self.done else 1.0
        return self.accepted + live_roots * rows_per_root < records

    async def reserve(
        self, role: str, prompt_tokens: float, completion_tokens: float
    ) -> Reservation:
        """Wait until there is something left, and take what a request may cost.

        Raises:
            StoppedError: `stop` was called.
        """
        while self._lacks_money() and not self._stopped:
            turn = asyncio.get_running_loop().create_future()
            self._waiters.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                self._wake(1)  # it may have been our turn
                raise
        if self._stopped:
            raise errors.StoppedError
        usd = cost_usd(self._prices.get(role), prompt_tokens, completion_tokens)
        taken = Reservation(role, prompt_tokens + completion_tokens, usd)
        self._reserved_tokens += taken.tokens
        self._reserved_usd += taken.usd
        self._under_way += 1
        return taken

    def settle(
        self, taken: Reservation, prompt_tokens: int, completion_tokens: int, answers: int = 1
    ) -> None:
        """Replace a reservation by what the request has used: nothing if it was not answered."""
        self._under_way -= 1
        self._reserved_tokens -= taken.tokens
        self._reserved_usd -= taken.usd
        if not self._under_way:
            self._reserved_tokens = self._reserved_usd = 0.0  # nor what rounding has left
        if prompt_tokens or completion_tokens:
            self.charge(taken.role, prompt_tokens, completion_tokens, answers)
        self._wake(1)

    def change(self, caps: Caps) -> None:
        """Go on with other caps."""
        self.caps = caps
        self._wake(len(self._waiters))
        self.on_room()

    def stop(self) -> None:
        """Refuse everybody who waits and everybody who comes."""
        self._stopped = True
        self._wake(len(self._waiters), always=True)

    def _lacks_money(self) -> bool:
        tokens, usd = self.caps.tokens, self.caps.usd
        return (tokens is not None and self.tokens + self._reserved_tokens >= tokens) or (
            usd is not None and self.usd + self._reserved_usd >= usd
        )

    def _wake(self, count: int, *, always: bool = False) -> None:
        """Wake waiters as long as there is money; each looks for itself."""
        if not always and self._lacks_money():
            return
        while count and self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                count -= 1
