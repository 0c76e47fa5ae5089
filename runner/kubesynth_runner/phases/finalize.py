"""finalize: sum the shards, write manifest, report and _SUCCESS, and tidy up."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import Totals
from kubesynth_api.v1alpha1.spending import Target
from kubesynth_api.version import VERSION
from kubesynth_runner import errors
from kubesynth_runner.io import layout, ledger, plan_file, run_identity, schema
from kubesynth_runner.io.run_manifest import DECODER, RunManifest
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.phases import plan, replay, report, spending
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.pipelines import compile as pipelines
from kubesynth_runner.tally import Tally

# Of shards' manifests, of which there may be ten thousand in an object store.
PARALLEL_READS = 32


@dataclasses.dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run: exact totals, and where its manifest and report are.

    `failures` are kind, count and a message of what failed, the commonest first.
    """

    totals: Totals
    manifest_uri: str
    report_uri: str
    complete: bool
    ended: Reason | None = None
    failures: tuple[tuple[str, int, str], ...] = ()


async def run(
    context: RunContext, *, partial: bool = False, ended: Reason | None = None
) -> RunResult:
    """Write what a finished run has to show. Safe to repeat: equal input gives equal files.

    With `partial`, unfinished shards are counted as far as they got. `ended` says why the run
    leaves input over. With TargetReached the dataset is complete: it is all that was asked for.

    Raises:
        RetryLaterError: a shard is not finished, and `partial` is not set.
        ConfigurationError: OutputConflict, another job has overwritten the output.
    """
    return await asyncio.to_thread(_run, context, partial, ended)


def load_result(context: RunContext) -> RunResult:
    """Return the result of a run that has been finalized.

    Raises:
        RetryLaterError: it has not.
    """
    storage = context.storage
    run_identity.require(storage, context.spec.uid)
    try:
        data = storage.read(layout.MANIFEST)
    except FileNotFoundError as exc:
        raise errors.RetryLaterError(
            Reason.RUNNER_FAILED, f"{storage.uri} holds no {layout.MANIFEST} yet; finalize it first"
        ) from exc
    return _to_result(storage, DECODER.decode(data))


def _run(context: RunContext, partial: bool, ended: Reason | None) -> RunResult:
    storage = context.storage
    # What there is is counted, whatever a run has failed of, and whatever texts say by now.
    planned = plan.load(context, counting=True)
    context = replay.with_input(context, planned)
    manifest = _collect(context, planned, partial, ended)
    strays = _find_strays(storage, manifest) if manifest.complete else []
    # Counting takes a while, and another job may have overwritten the output since: nothing that
    # was seen before this is one of its files.
    run_identity.require(storage, context.spec.uid)
    storage.put(layout.MANIFEST, msgspec.json.encode(manifest))
    storage.put(layout.REPORT, report.render(manifest, context.spec).encode())
    if manifest.complete:
        for path in strays:
            storage.delete(path)
        run_identity.require(storage, context.spec.uid)
        storage.create(layout.SUCCESS, b"")
    else:
        # Of a run that had reached a lower target and was resumed.
        storage.delete(layout.SUCCESS)
    return _to_result(storage, manifest)


def _collect(
    context: RunContext, planned: plan_file.PlanFile, partial: bool, ended: Reason | None
) -> RunManifest:
    spec, read = context.spec.spec, context.environment.read_prompt
    compiled = pipelines.compile_pipeline(spec, read, planned.column_types)
    steps, whole = replay.identify(spec, compiled, planned.texts)
    tally, finished = Tally(), 0
    data: list[ledger.CommittedFile] = []
    failed: list[ledger.CommittedFile] = []
    for shard, manifest in enumerate(_read_shards(context.storage, planned)):
        if manifest is not None:
            finished += 1
            tally.add(manifest.tally)
            data += manifest.data
            failed += manifest.errors
            continue
        if not partial:
            raise errors.RetryLaterError(
                Reason.RUNNER_FAILED, f"shard {shard} is not finished; generate it first"
            )
        commits = ledger.read_commits(context.storage, planned.run_id, shard)
        for record in commits:
            tally.add(record.tally)
            data += [record.data] if record.data else []
            failed += [record.errors] if record.errors else []
        tally.add(spending.of_unfinished_shard(context, planned, shard, commits))
    if planned.generated:
        own = ledger.read_shard_manifest(context.storage, planned.run_id, layout.PLAN_SHARD)
        if own is not None:
            spent = own.tally.copy()
            # It counts what plan did for all records as one record; the shards count the records.
            spent.done = spent.failed_roots = 0
            tally.add(spent)
            failed += own.errors
    everything = finished == planned.shards
    if ended is None and everything:
        ended = _by_target(spec.target, tally)
    return RunManifest(
        planned.run_id,
        context.spec.name,
        VERSION,
        planned.pipeline_hash,
        schema.SCHEMA_VERSION,
        everything or ended is Reason.TARGET_REACHED,
        planned.shards,
        finished,
        planned.records,
        tally,
        {name: str(kind) for name, kind in compiled.columns.items()},
        tuple(data),
        tuple(failed),
        planned.files,
        steps,
        whole,
        spec.input.to_wire() if spec.input is not None else None,
        planned.replays,
        ended or "",
        planned.left_out,
        tally.cost_usd(context.prices),
    )


def _by_target(target: Target | None, tally: Tally) -> Reason | None:
    """Return what became of the target of a run that has used up its input."""
    if target is None:
        return None
    enough = tally.accepted >= target.accepted_records
    return Reason.TARGET_REACHED if enough else Reason.TARGET_MISSED


def _read_shards(
    storage: Storage, planned: plan_file.PlanFile
) -> list[ledger.ShardManifest | None]:
    def read(shard: int) -> ledger.ShardManifest | None:
        return ledger.read_shard_manifest(storage, planned.run_id, shard)

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(read, range(planned.shards)))


def _find_strays(storage: Storage, manifest: RunManifest) -> list[str]:
    """Return files in data/ and errors/ that no commit names: a stale writer's, a half copy."""
    known = {file.path for file in (*manifest.data, *manifest.errors)}
    files = (*storage.list_files(layout.DATA), *storage.list_files(layout.ERRORS))
    return [file.path for file in files if file.path not in known]


def _to_result(storage: Storage, manifest: RunManifest) -> RunResult:
    totals = manifest.tally.to_totals(manifest.records)
    return RunResult(
        totals.model_copy(update={"cost_usd": manifest.cost_usd}),
        f"{storage.uri}/{layout.MANIFEST}",
        f"{storage.uri}/{layout.REPORT}",
        manifest.complete,
        Reason(manifest.ended) if manifest.ended else None,
        tuple(manifest.tally.failures()),
    )
