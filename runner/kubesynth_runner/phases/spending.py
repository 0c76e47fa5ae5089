"""What shards begin with, and what has been spent of a job's caps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kubesynth_api import shares
from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import CapShare, Lease
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner.engine.purse import Caps, Purse
from kubesynth_runner.io import layout, ledger, plan_file
from kubesynth_runner.io.journal import Journal
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.phases.supervision import Runnable
from kubesynth_runner.shard_lease import LeaseStore, first_lease
from kubesynth_runner.tally import Tally


@dataclasses.dataclass(frozen=True, slots=True)
class ShardState:
    """What an attempt finds of the attempts before it."""

    partition: plan_file.Partition
    book: ledger.Ledger
    journal: Journal
    store: LeaseStore
    lease: Lease | None


@dataclasses.dataclass(frozen=True, slots=True)
class ShardEnd:
    """How a shard ended: its exact counts, and why it has not used up its input, if so.

    `spent` includes what went into records that are not finished.
    """

    tally: Tally
    spent: CapShare
    ended_early: Reason | None = None


def spent_by(tally: Tally, prices: Mapping[str, Price]) -> CapShare:
    """Return what a tally has used of a job's caps."""
    return CapShare(
        tokens=tally.prompt_tokens + tally.completion_tokens,
        usd=tally.cost_usd(prices) or 0.0,
        records=tally.accepted,
    )


def of_plan(context: RunContext, plan: plan_file.PlanFile) -> CapShare:
    """Return what plan has used of the job's caps. Its records are no rows. Blocking."""
    own = None
    if plan.generated:
        own = ledger.read_shard_manifest(context.storage, plan.run_id, layout.PLAN_SHARD)
    tally = own.tally if own is not None else Tally()
    return spent_by(tally, context.prices).model_copy(update={"records": 0})


def plus(left: CapShare, right: CapShare) -> CapShare:
    """Return the sum of what was spent."""
    return CapShare(
        tokens=(left.tokens or 0) + (right.tokens or 0),
        usd=(left.usd or 0.0) + (right.usd or 0.0),
        records=(left.records or 0) + (right.records or 0),
    )


def paid_by(tally: Tally) -> Tally:
    """Return the part of a tally that counts answers."""
    return Tally(
        prompt_tokens=tally.prompt_tokens,
        completion_tokens=tally.completion_tokens,
        requests_ok=tally.requests_ok,
        by_model=tally.by_model,
    )


def purse(context: RunContext, book: ledger.Ledger, journal: Journal) -> Purse:
    """Return the purse of a shard, with all that earlier attempts have paid."""
    paid = paid_by(book.tally).copy()
    paid.add(unfinished(context, journal))
    made = Purse(Caps(), context.prices, paid)
    made.accepted, made.done = book.tally.accepted, book.tally.done
    return made


def unfinished(context: RunContext, journal: Journal) -> Tally:
    """Return what a journal's answers for records that are not committed have cost."""
    paid = Tally()
    roles = [model.name for model in context.spec.spec.models]
    for place, of_model in journal.unfinished.items():
        paid.prompt_tokens += of_model.prompt_tokens
        paid.completion_tokens += of_model.completion_tokens
        paid.estimated_tokens += of_model.tokens_estimated
        paid.requests_ok += of_model.calls
        if context.prices:
            paid.charge(roles[place], of_model.prompt_tokens, of_model.completion_tokens)
    return paid


def of_unfinished_shard(
    context: RunContext, plan: plan_file.PlanFile, shard: int, commits: list[ledger.CommitRecord]
) -> Tally:
    """Return what went into records of a shard that nobody may finish any more. Blocking.

    That is what its journal holds beyond its commits. The shard is not claimed for it.
    """
    records = plan_file.load_partition(context.storage, plan, shard).records
    done = ledger.no_records_done(records)
    for record in commits:
        ledger.mark_done(done, record.done)
    journal = Journal(context.storage, plan.run_id, shard, epoch=0)
    journal.read(done)
    return unfinished(context, journal)


def of_whole_job(context: RunContext) -> Caps:
    """Return what the job may spend on its input while no shard is at work."""
    budget = context.spec.spec.budget
    return Caps(budget.tokens, budget.usd) if budget is not None else Caps()


def waits_for(made: Purse, work: Runnable) -> str:
    """Return the reason that all of the work waits at a cap, or nothing."""
    if made.is_waiting or work.is_held_back:
        return made.spent_up or ""
    return ""


def lease(context: RunContext, state: ShardState, outside: CapShare) -> Lease:
    """Return what a shard may use of the job's limits to begin with."""
    share = context.first_share
    if context.alone:
        left = shares.rest(share.caps, outside)
        return Lease(generation=0, models=share.models, caps=left)
    return first_lease(share, outside, state.partition.shard, state.lease)
