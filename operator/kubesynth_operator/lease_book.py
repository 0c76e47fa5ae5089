"""What every pod and shard is known to hold of its job's limits: in memory, rebuilt by asking.

Knows the most that each may be using at this moment, and errs on that side: while an answer is
missing, the larger of what was held and what was offered. After a restart of the operator nothing
is known; then what nobody is known to hold counts as held by the rest, so shares can move between
those who have answered, and nothing is given out twice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import CapShare, InitialShare, Lease, LeaseReport
from kubesynth_api.shares import initial_caps
from kubesynth_operator.policies import leases
from kubesynth_operator.policies.leases import UNLIMITED, Amounts, Division, Holder, Share

CAPS = ("tokens", "usd", "records")


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """What the job says at the moment, and what its Job has been started with.

    `slots` is how many pods its Job may run at once, `remaining` how many of its shards have not
    ended for good, `over` those that have.
    """

    limits: Amounts
    caps: CapShare
    first: InitialShare
    shards: int
    slots: int
    wanted_slots: int
    remaining: int
    over: frozenset[int] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class LivePod:
    """A pod that has not ended. `new` is one that has certainly not been leased anything."""

    uid: str
    index: int
    new: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """A lease to send to a pod."""

    uid: str
    lease: Lease


@dataclasses.dataclass(slots=True)
class _Pod:
    index: int
    rates: dict[str, int] | None
    generation: int = 0
    answered: bool = False
    waits_for: str = ""


@dataclasses.dataclass(slots=True)
class _Shard:
    """`is_exact` says that its last pod has told what it had spent in the end."""

    caps: dict[str, int]
    spent: dict[str, int]
    is_exact: bool = False


class JobLeases:
    """The leases of one job. `fresh`: no pod of it can have started before we looked."""

    def __init__(self, terms: Terms, *, fresh: bool) -> None:
        self.terms = terms
        self._pods: dict[str, _Pod] = {}
        self._shards: dict[int, _Shard] = {}
        self._fresh = fresh
        self._outside = CapShare()
        whole = leases.caps_of(terms.caps)
        # What shards of which nothing is known may hold.
        self._reserve = dict.fromkeys(CAPS, 0) if fresh else whole

    def go_by(self, terms: Terms) -> None:
        """Take what the job says now. Shards that are over need no more than they have used."""
        self.terms = terms
        for index in terms.over:
            self._release(index)

    def _release(self, index: int) -> None:
        shard = self._shards.get(index)
        if shard is not None and shard.is_exact:
            shard.caps = dict(shard.spent)

    def see(self, pods: Iterable[LivePod]) -> None:
        """Take note of the pods that run or are about to; all others are gone."""
        live = {pod.uid: pod for pod in pods}
        self._pods = {uid: pod for uid, pod in self._pods.items() if uid in live}
        for uid, seen in live.items():
            if uid not in self._pods:
                rates = leases.rates_of(self.terms.first.models) if seen.new else None
                self._pods[uid] = _Pod(seen.index, rates)

    @property
    def has_caps(self) -> bool:
        """Whether something is used up while pods work, so that they have to be asked."""
        caps = self.terms.caps
        return any(each is not None for each in (caps.tokens, caps.usd, caps.records))

    def have_answered(self, uids: Iterable[str]) -> bool:
        """Tell whether these pods have answered in this round."""
        return all(uid in self._pods and self._pods[uid].answered for uid in uids)

    def forget_answers(self) -> None:
        """Begin a round: nobody has answered yet."""
        for pod in self._pods.values():
            pod.answered = False

    def answered(self, uid: str, report: LeaseReport) -> None:
        """Take a pod's own word for what it holds: that is exact."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        pod.rates = leases.rates_of(report.lease.models)
        pod.generation = report.lease.generation
        pod.answered = True
        pod.waits_for = report.waits_for
        self._outside = report.outside
        self._learn(pod.index, report)

    def silent(self, uid: str) -> None:
        """Note that a pod has not answered: it may have what it had, or what it was sent."""
        if uid in self._pods:
            self._pods[uid].answered = False

    def offered(self, offer: Offer) -> None:
        """Note that a lease is on its way: from now on the pod may hold it."""
        pod = self._pods.get(offer.uid)
        if pod is None or pod.rates is None:
            return
        pod.rates = _most(pod.rates, leases.rates_of(offer.lease.models))
        shard = self._shards.get(pod.index)
        if shard is not None:
            shard.caps = _most(shard.caps, leases.caps_of(offer.lease.caps))

    def ended(self, index: int, report: LeaseReport) -> bool:
        """Take a pod's last words; tell whether they count.

        Before we began, a shard that is not over may have had a later pod, which is gone without a
        word, and held more.
        """
        if not self._fresh and index not in self._shards and index not in self.terms.over:
            return False
        self._learn(index, report)
        self._shards[index].is_exact = True
        if index in self.terms.over:
            self._release(index)
        return True

    def _learn(self, index: int, report: LeaseReport) -> None:
        caps, spent = leases.caps_of(report.lease.caps), leases.spent_of(report.spent)
        caps = _most(caps, spent)
        if index not in self._shards and not self._fresh:
            # What was left of a shard that is over may have been given to others before we began.
            held = spent if index in self.terms.over else caps
            self._reserve = {name: max(0, self._reserve[name] - held[name]) for name in CAPS}
        self._shards[index] = _Shard(caps, spent)
        if len(self._shards) == self.terms.shards:
            self._reserve = dict.fromkeys(CAPS, 0)

    def reductions(self) -> list[Offer]:
        """Return what has to be taken back before anything can be given."""
        holders, division = self._holders(), self._division()
        wanted = leases.targets(holders, division)
        return self._offers(leases.reductions(holders, wanted))

    def grants(self) -> list[Offer]:
        """Return what can be given now."""
        holders, division = self._holders(), self._division()
        wanted = leases.targets(holders, division)
        return self._offers(leases.grants(holders, wanted, division))

    def _offers(self, shares: Mapping[str, Share]) -> list[Offer]:
        return [
            Offer(uid, leases.to_lease(share, self._pods[uid].generation + 1))
            for uid, share in shares.items()
        ]

    def _holders(self) -> list[Holder]:
        found = []
        for uid, pod in self._pods.items():
            shard = self._shards.get(pod.index)
            found.append(
                Holder(
                    uid,
                    pod.index,
                    pod.answered and shard is not None,
                    pod.rates,
                    shard.caps if shard else None,
                    shard.spent if shard else {},
                    pod.waits_for,
                )
            )
        return found

    def _division(self) -> Division:
        terms, holders = self.terms, self._holders()
        first = leases.rates_of(terms.first.models)
        rates = leases.rates_to_divide(terms.limits, first, holders, self._starting())
        askable = {holder.index for holder in holders if holder.askable}
        return Division(rates, self._caps_to_divide(askable))

    def _starting(self) -> int:
        """Return how many pods may start, or are to be let start, beside those that run."""
        terms = self.terms
        first = leases.rates_of(terms.first.models)
        wanted = leases.most_slots(terms.limits, first, self._holders(), terms.wanted_slots)
        slots = min(max(terms.slots, wanted), terms.remaining)
        return max(0, slots - len(self._pods))

    def _caps_to_divide(self, askable: set[int]) -> dict[str, int]:
        whole, spent_before = leases.caps_of(self.terms.caps), leases.spent_of(self._outside)
        found = {}
        for name, amount in whole.items():
            if amount >= UNLIMITED:
                found[name] = UNLIMITED
                continue
            elsewhere = sum(
                shard.caps[name] for index, shard in self._shards.items() if index not in askable
            )
            reserved = self._reserve[name] + self._unseen(name)
            found[name] = max(0, amount - spent_before[name] - elsewhere - reserved)
        return found

    def _unseen(self, name: str) -> int:
        """Return what shards hold that have certainly not begun: their first share."""
        if not self._fresh:
            return 0
        first = self.terms.first
        return sum(
            leases.caps_of(initial_caps(first, self._outside, index))[name]
            for index in range(min(first.parallelism, self.terms.shards))
            if index not in self._shards
        )

    def slots_allowed(self) -> int:
        """Return how many pods the Job may run at once now."""
        terms = self.terms
        return leases.slots_allowed(
            terms.limits,
            leases.rates_of(terms.first.models),
            self._holders(),
            terms.wanted_slots,
            terms.slots,
        )

    def end(self) -> Reason | None:
        """Return why the job has come to its end early, if it has.

        That is when every pod waits at a cap and there is nothing left to give, or when all is
        spent and nobody is at work.
        """
        pods = list(self._pods.values())
        if not pods or not all(pod.answered and pod.waits_for for pod in pods):
            return None
        whole, before = leases.caps_of(self.terms.caps), leases.spent_of(self._outside)
        spent = {
            name: before[name] + sum(shard.spent[name] for shard in self._shards.values())
            for name in CAPS
        }
        if spent["records"] >= whole["records"]:
            return Reason.TARGET_REACHED
        if spent["tokens"] >= whole["tokens"] or spent["usd"] >= whole["usd"]:
            return Reason.BUDGET_SPENT
        if self._starting() or self.reductions() or self.grants():
            return None
        # The rest is with shards that have failed, or that nobody can be asked about.
        waits = {pod.waits_for for pod in pods}
        return Reason.BUDGET_SPENT if Reason.BUDGET_SPENT in waits else Reason.TARGET_MISSED


def _most(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: max(amount, right.get(name, 0)) for name, amount in left.items()}
