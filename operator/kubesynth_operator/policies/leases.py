"""How the limits and caps of a job are divided over its pods. Pure, all in whole numbers.

The sum of what pods may use never exceeds the limit, whatever happens to pods, answers and
operators. So a share is taken back, and the pod has said so, before it is given elsewhere; a pod
that cannot be asked keeps what it was last given; and the first share of every pod that may still
start is set aside. What is not known is assumed to be with those of whom nothing is known.

Rates (concurrency, requests and tokens per minute) belong to a pod. Caps (tokens, dollars, records)
are cumulative and belong to a shard, whichever pod works on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from kubesynth_api.runner_contract import CapShare, Lease, ModelShare
from kubesynth_api.shares import MICROS_PER_USD, MILLIS, part, to_micros
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

Amounts = Mapping[str, int]
UNLIMITED = 10**18
# Caps are divided again when a shard has less left than this part of an even share, and are not
# divided into crumbs smaller than this part of the whole.
LOW_SHARE = 4
CRUMBS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A pod that runs, with the most that it may be using.

    `rates` and `caps` are None while nobody knows. `spent` is what its shard has used of the caps,
    reservations of requests under way included. `waits_for` is the reason that it waits at a cap.
    """

    uid: str
    index: int
    askable: bool
    rates: Amounts | None = None
    caps: Amounts | None = None
    spent: Amounts = dataclasses.field(default_factory=dict)
    waits_for: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Division:
    """What there is to divide among the pods that can be asked, by resource."""

    rates: Amounts
    caps: Amounts


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """What one pod may use."""

    rates: Amounts
    caps: Amounts


def rate_limits(spec: SyntheticDataJobSpec) -> dict[str, int]:
    """Return the limits of a job as amounts."""
    found: dict[str, int] = {}
    for model in spec.models:
        limits = model.limits
        found |= _model_amounts(
            model.name, limits.concurrency, limits.requests_per_minute, limits.tokens_per_minute
        )
    return found


def rates_of(models: Mapping[str, ModelShare]) -> dict[str, int]:
    """Return the rates of a lease as amounts."""
    found: dict[str, int] = {}
    for role, share in models.items():
        found |= _model_amounts(
            role, share.concurrency, share.requests_per_minute, share.tokens_per_minute
        )
    return found


def _model_amounts(
    role: str, concurrency: int, requests: float | None, tokens: float | None
) -> dict[str, int]:
    return {
        f"{role}.concurrency": concurrency,
        f"{role}.requests": UNLIMITED if requests is None else round(requests * MILLIS),
        f"{role}.tokens": UNLIMITED if tokens is None else round(tokens * MILLIS),
    }


def caps_of(caps: CapShare) -> dict[str, int]:
    """Return caps as amounts, money in millionths of a dollar."""
    amounts = {"tokens": caps.tokens, "usd": to_micros(caps.usd), "records": caps.records}
    return {name: UNLIMITED if amount is None else amount for name, amount in amounts.items()}


def spent_of(spent: CapShare) -> dict[str, int]:
    """Return what was spent as amounts."""
    return {
        "tokens": spent.tokens or 0,
        "usd": to_micros(spent.usd) or 0,
        "records": spent.records or 0,
    }


def to_lease(share: Share, generation: int) -> Lease:
    """Return a share as it is sent to a pod."""
    roles = dict.fromkeys(name.rpartition(".")[0] for name in share.rates)

    def per_minute(name: str) -> float | None:
        amount = share.rates[name]
        return None if amount >= UNLIMITED else amount / MILLIS

    def cap(name: str) -> int | None:
        amount = share.caps[name]
        return None if amount >= UNLIMITED else amount

    usd = cap("usd")
    return Lease(
        generation=generation,
        models={
            role: ModelShare(
                concurrency=share.rates[f"{role}.concurrency"],
                requests_per_minute=per_minute(f"{role}.requests"),
                tokens_per_minute=per_minute(f"{role}.tokens"),
            )
            for role in roles
        },
        caps=CapShare(
            tokens=cap("tokens"),
            usd=None if usd is None else usd / MICROS_PER_USD,
            records=cap("records"),
        ),
    )


def rates_to_divide(
    limits: Amounts, first: Amounts, holders: Sequence[Holder], starting: int
) -> dict[str, int]:
    """Return what the pods that can be asked may use together.

    Args:
        limits: Of the whole job.
        first: The share that a pod starts with.
        holders: Every pod that runs.
        starting: How many more may start without anybody being asked.
    """
    askable = [holder for holder in holders if holder.askable and holder.rates is not None]
    others = [holder for holder in holders if not holder.askable and holder.rates is not None]
    all_known = len(askable) + len(others) == len(holders)
    found = {}
    for name, limit in limits.items():
        if limit >= UNLIMITED:
            found[name] = UNLIMITED
            continue
        set_aside = starting * min(first.get(name, 0), limit)
        left = limit - set_aside - _sum(name, (holder.rates for holder in others))
        if not all_known:
            left = min(left, _sum(name, (holder.rates for holder in askable)))
        found[name] = max(0, left)
    return found


def _sum(name: str, amounts: Iterable[Amounts | None]) -> int:
    return sum(each.get(name, UNLIMITED) for each in amounts if each is not None)


def targets(holders: Sequence[Holder], division: Division) -> dict[str, Share]:
    """Return what each pod that can be asked should have, by its uid."""
    askable = sorted(
        (holder for holder in holders if holder.askable and holder.rates is not None),
        key=lambda holder: (holder.index, holder.uid),
    )
    count = len(askable)
    caps = {
        name: _divide_cap(name, amount, askable) if amount < UNLIMITED else None
        for name, amount in division.caps.items()
    }
    found = {}
    for place, holder in enumerate(askable):
        rates = {
            name: UNLIMITED if amount >= UNLIMITED else max(1, part(amount, place, count))
            for name, amount in division.rates.items()
        }
        own = {
            name: UNLIMITED if amounts is None else amounts[holder.uid]
            for name, amounts in caps.items()
        }
        found[holder.uid] = Share(rates, own)
    return found


def _divide_cap(name: str, amount: int, holders: Sequence[Holder]) -> dict[str, int]:
    """Divide what is left of a cap evenly, or leave it where it is while everybody has enough."""
    spent = {holder.uid: holder.spent.get(name, 0) for holder in holders}
    held = {holder.uid: _cap(holder, name) for holder in holders}
    left = amount - sum(spent.values())
    takers = [holder for holder in holders if not _waits_for_another(holder, name)] or holders
    even = left // max(1, len(takers))
    is_short = any(held[holder.uid] - spent[holder.uid] <= even // LOW_SHARE for holder in takers)
    unused = amount - sum(held.values())
    if unused >= 0 and not (is_short and left > 0) and unused <= even // LOW_SHARE:
        return held
    if left <= 0:
        return spent
    crumbs = max(1, left // max(1, amount // CRUMBS))
    takers = sorted(takers, key=lambda holder: (not holder.waits_for, holder.index))[:crumbs]
    takes = {holder.uid: part(left, place, len(takers)) for place, holder in enumerate(takers)}
    return {uid: amount + takes.get(uid, 0) for uid, amount in spent.items()}


def _cap(holder: Holder, name: str) -> int:
    return UNLIMITED if holder.caps is None else holder.caps.get(name, UNLIMITED)


def _waits_for_another(holder: Holder, name: str) -> bool:
    """Tell whether a pod waits at another cap, so that it can lend what it has of this one."""
    if not holder.waits_for:
        return False
    return holder.spent.get(name, 0) < _cap(holder, name)


def reductions(holders: Sequence[Holder], wanted: Mapping[str, Share]) -> dict[str, Share]:
    """Return what has to be taken from pods, by uid; nobody gets more by it."""
    found = {}
    for holder in holders:
        share = wanted.get(holder.uid)
        if share is None:
            continue
        held = _held(holder, share)
        less = Share(
            {name: min(amount, held.rates[name]) for name, amount in share.rates.items()},
            {name: min(amount, held.caps[name]) for name, amount in share.caps.items()},
        )
        if less != held:
            found[holder.uid] = less
    return found


def grants(
    holders: Sequence[Holder], wanted: Mapping[str, Share], division: Division
) -> dict[str, Share]:
    """Return what pods can be given now, by uid: no more than what is free this moment."""
    askable = [holder for holder in holders if holder.uid in wanted and holder.askable]
    # One that was asked in vain still has a part of what was to be divided.
    counted = [holder for holder in holders if holder.uid in wanted]
    free_rates = _free(division.rates, [holder.rates or {} for holder in counted])
    free_caps = _free(division.caps, [holder.caps or {} for holder in counted])
    found = {}
    for holder in askable:
        share, held = wanted[holder.uid], _held(holder, wanted[holder.uid])
        more = Share(
            _raise(held.rates, share.rates, free_rates), _raise(held.caps, share.caps, free_caps)
        )
        if more != held:
            found[holder.uid] = more
    return found


def _held(holder: Holder, share: Share) -> Share:
    """Return what a pod holds of what is in a share; of what it does not speak of, everything."""
    rates, caps = holder.rates or {}, holder.caps or {}
    return Share(
        {name: rates.get(name, UNLIMITED) for name in share.rates},
        {name: caps.get(name, UNLIMITED) for name in share.caps},
    )


def _free(division: Amounts, held: Sequence[Amounts]) -> dict[str, int]:
    return {
        name: amount if amount >= UNLIMITED else max(0, amount - _sum(name, held))
        for name, amount in division.items()
    }


def _raise(held: Amounts, wanted: Amounts, free: dict[str, int]) -> dict[str, int]:
    """Return what is held, raised towards what is wanted; `free` is used up by it."""
    found = {}
    for name, amount in wanted.items():
        has = held.get(name, UNLIMITED)
        more = max(0, amount - has)
        if free[name] < UNLIMITED:
            more = min(more, free[name])
            free[name] -= more
        found[name] = has + more
    return found


def slots_allowed(
    limits: Amounts, first: Amounts, holders: Sequence[Holder], wanted: int, current: int
) -> int:
    """Return how many pods may run at once, on the way from `current` to `wanted`.

    A pod that starts takes its first share without asking, and any pod may be replaced by such a
    one: so another may start only when there is a first share for it beside all that is held.
    """
    if wanted <= current:
        return wanted
    return max(current, _slots(limits, first, holders, wanted))


def most_slots(limits: Amounts, first: Amounts, holders: Sequence[Holder], wanted: int) -> int:
    """Return how many pods may run at once when those that can be asked have given what they can.

    They can give all but a first share.
    """
    return _slots(limits, first, [holder for holder in holders if not holder.askable], wanted)


def _slots(limits: Amounts, first: Amounts, holders: Sequence[Holder], wanted: int) -> int:
    """Return for how many pods there is a first share, `holders` and what they hold included."""
    if any(holder.rates is None for holder in holders):
        return 0
    slots = wanted
    for name, limit in limits.items():
        share = first.get(name, 0)
        if limit >= UNLIMITED or not 0 < share < UNLIMITED:
            continue
        held = sum(max(share, (holder.rates or {}).get(name, 0)) for holder in holders)
        slots = min(slots, len(holders) + max(0, limit - held) // share)
    return slots
