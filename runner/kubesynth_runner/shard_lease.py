"""What the shard at work here may use of its job's limits, and how that changes while it runs.

A lease is stored beside the shard's journal before it is acknowledged: caps that were lowered stay
so whatever happens to the pod, since what was taken from it may be with others by then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from kubesynth_api.runner_contract import CapShare, InitialShare, Lease, LeaseReport, ModelShare
from kubesynth_api.shares import initial_caps
from kubesynth_runner import errors
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.purse import Caps, Purse
from kubesynth_runner.io import layout
from kubesynth_runner.io.storage import Storage

AmountT = TypeVar("AmountT", int, float)


class StaleLeaseError(Exception):
    """A lease that does not follow the one in force."""


@dataclasses.dataclass(frozen=True, slots=True)
class LeaseStore:
    """Where a shard's lease is kept. Blocking."""

    storage: Storage
    run_id: str
    shard: int
    # Of the job: another one that goes on with the run has limits of its own.
    uid: str

    @property
    def _path(self) -> str:
        return layout.RunLayout(self.run_id).lease(self.shard, self.uid)

    def load(self) -> Lease | None:
        """Return the lease that an earlier attempt was given last."""
        try:
            return Lease.from_peer(self.storage.read(self._path))
        except FileNotFoundError:
            return None

    def save(self, lease: Lease) -> None:
        """Make a lease outlive this process."""
        self.storage.put(self._path, msgspec.json.encode(lease.to_wire()))


def first_lease(share: InitialShare, outside: CapShare, shard: int, stored: Lease | None) -> Lease:
    """Return what an attempt at a shard begins with.

    Caps go on from the last lease. Of rates it takes no more than a pod that was never leased any:
    the operator counts on that.
    """
    if stored is None:
        return Lease(generation=0, models=share.models, caps=initial_caps(share, outside, shard))
    models = {
        role: _least(first, stored.models[role]) if role in stored.models else first
        for role, first in share.models.items()
    }
    return stored.model_copy(update={"models": models})


def _least(left: ModelShare, right: ModelShare) -> ModelShare:
    return ModelShare(
        concurrency=min(left.concurrency, right.concurrency),
        requests_per_minute=_least_of(left.requests_per_minute, right.requests_per_minute),
        tokens_per_minute=_least_of(left.tokens_per_minute, right.tokens_per_minute),
    )


def to_caps(caps: CapShare) -> Caps:
    """Return caps as the engine knows them."""
    return Caps(caps.tokens, caps.usd, caps.records)


def is_token(expected: str, header: str) -> bool:
    """Tell whether an Authorization header carries the job's token. No token admits nobody."""
    return bool(expected) and hmac.compare_digest(f"Bearer {expected}".encode(), header.encode())


class ShardLease:
    """The lease in force, and what it rules. One per shard and process."""

    def __init__(
        self, store: LeaseStore, lease: Lease, purse: Purse, outside: CapShare | None = None
    ) -> None:
        self.lease = lease
        self.purse = purse
        self._store = store
        self._outside = outside or CapShare()
        self._connections: Mapping[str, ModelConnection] = {}
        self._on_rates: Callable[[], None] = lambda: None
        self._waits_for: Callable[[], str] = lambda: ""
        self._lock = asyncio.Lock()

    def attach(
        self,
        connections: Mapping[str, ModelConnection],
        on_rates: Callable[[], None],
        waits_for: Callable[[], str],
    ) -> None:
        """Rule these connections; `on_rates` is told of every change."""
        self._connections, self._on_rates, self._waits_for = connections, on_rates, waits_for

    def report(self) -> LeaseReport:
        """Return what this shard holds and has spent."""
        committed = self.purse.committed
        return LeaseReport(
            lease=self.lease,
            spent=CapShare(
                tokens=committed.tokens, usd=committed.usd or 0.0, records=committed.records
            ),
            outside=self._outside,
            waits_for=self._waits_for(),
        )

    async def take(self, lease: Lease) -> LeaseReport:
        """Go by another lease from now on, and return what is held then.

        Caps are never set below what is spent and under way: the report says how far it went.

        Raises:
            StaleLeaseError: the lease does not follow the one in force.
            RunnerError: it could not be stored, and is not in force.
        """
        async with self._lock:
            if lease.generation != self.lease.generation + 1:
                raise StaleLeaseError
            # What is not allowed any more ends now, what is newly allowed begins when it is stored.
            self.purse.change(_lower(self.purse.caps, to_caps(lease.caps)))
            kept = lease.model_copy(update={"caps": self._at_least_committed(lease.caps)})
            try:
                await asyncio.to_thread(self._store.save, kept)
            except errors.RunnerError:
                self.purse.change(to_caps(self.lease.caps))
                raise
            self.lease = kept
            self.purse.change(to_caps(kept.caps))
            for role, share in kept.models.items():
                connection = self._connections.get(role)
                if connection is not None:
                    connection.gate.change_limits(
                        min(share.concurrency, connection.most_slots or share.concurrency),
                        share.requests_per_minute,
                        share.tokens_per_minute,
                    )
            self._on_rates()
            return self.report()

    def _at_least_committed(self, caps: CapShare) -> CapShare:
        least = self.purse.committed
        return CapShare(
            tokens=None if caps.tokens is None else max(caps.tokens, least.tokens or 0),
            usd=None if caps.usd is None else max(caps.usd, least.usd or 0.0),
            records=None if caps.records is None else max(caps.records, least.records or 0),
        )


def _lower(left: Caps, right: Caps) -> Caps:
    return Caps(
        _least_of(left.tokens, right.tokens),
        _least_of(left.usd, right.usd),
        _least_of(left.records, right.records),
    )


def _least_of(left: AmountT | None, right: AmountT | None) -> AmountT | None:
    return min((each for each in (left, right) if each is not None), default=None)
