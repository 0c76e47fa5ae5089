"""What a pod may use of a job's limits and caps before anybody has leased it anything.

The operator writes it into the pods of a Job; a runner without one (the command line) works it out
for itself. Sums over all pods that may run are exact, never more than the whole.
"""

from __future__ import annotations

from kubesynth_api.runner_contract import CapShare, InitialShare, ModelShare
from kubesynth_api.v1alpha1.models import ModelLimits
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

# Money is divided in millionths of a dollar, rates in thousandths of a unit per minute.
MICROS_PER_USD = 1_000_000
MILLIS = 1_000
# shards.parallelism may grow by this factor before limits have to grow too: each pod that starts
# needs its first share.
PARALLELISM_HEADROOM = 2


def part(total: int, index: int, count: int) -> int:
    """Return the part `index` of `count` nearly equal parts of a total: they add up exactly."""
    return total * (index + 1) // count - total * index // count


def initial_share(spec: SyntheticDataJobSpec) -> InitialShare:
    """Return what each pod of a job may use at first, and the caps that its first pods divide."""
    pods = min(spec.shards.count, PARALLELISM_HEADROOM * spec.parallelism)
    return _share(spec, spec.parallelism, pods)


def whole_share(spec: SyntheticDataJobSpec) -> InitialShare:
    """Return all that a job may use, for a process that runs the whole job."""
    return _share(spec, 1, 1)


def _share(spec: SyntheticDataJobSpec, parallelism: int, pods: int) -> InitialShare:
    return InitialShare(
        parallelism=parallelism,
        models={model.name: _model_share(model.limits, pods) for model in spec.models},
        caps=whole_caps(spec),
    )


def rest(caps: CapShare, spent: CapShare) -> CapShare:
    """Return what is left of caps."""
    usd, spent_usd = to_micros(caps.usd), to_micros(spent.usd) or 0
    return CapShare(
        tokens=None if caps.tokens is None else max(0, caps.tokens - (spent.tokens or 0)),
        usd=None if usd is None else max(0, usd - spent_usd) / MICROS_PER_USD,
        records=None if caps.records is None else max(0, caps.records - (spent.records or 0)),
    )


def _model_share(limits: ModelLimits, pods: int) -> ModelShare:
    def per_pod(limit: int | None) -> float | None:
        return None if limit is None else limit * MILLIS // pods / MILLIS or 1 / MILLIS

    return ModelShare(
        concurrency=max(1, limits.concurrency // pods),
        requests_per_minute=per_pod(limits.requests_per_minute),
        tokens_per_minute=per_pod(limits.tokens_per_minute),
    )


def whole_caps(spec: SyntheticDataJobSpec) -> CapShare:
    """Return what the whole job may spend and make."""
    budget, target = spec.budget, spec.target
    return CapShare(
        tokens=budget.tokens if budget else None,
        usd=budget.usd if budget else None,
        records=target.accepted_records if target else None,
    )


def initial_caps(share: InitialShare, outside: CapShare, shard: int) -> CapShare:
    """Return the caps of a shard that nothing was leased to.

    The first `parallelism` shards divide what is left of the whole. The others begin with nothing
    and wait for what the first ones leave: so whatever is left is always with shards at work.

    Args:
        share: Of the job.
        outside: What has been spent before the first shard.
        shard: The shard's index.
    """

    def of(whole: int | None) -> int | None:
        if whole is None:
            return None
        return part(whole, shard, share.parallelism) if shard < share.parallelism else 0

    left = rest(share.caps, outside)
    usd = of(to_micros(left.usd))
    return CapShare(
        tokens=of(left.tokens),
        usd=None if usd is None else usd / MICROS_PER_USD,
        records=of(left.records),
    )


def to_micros(usd: float | None) -> int | None:
    """Return dollars in whole millionths."""
    return None if usd is None else round(usd * MICROS_PER_USD)
