"""manifest.json: what a finished run has to show."""

from __future__ import annotations

from typing import Any

import msgspec

from kubesynth_runner.io import ledger, plan_file
from kubesynth_runner.tally import Tally


class RunManifest(msgspec.Struct, frozen=True, rename="camel"):
    """Content of manifest.json: every file of the dataset, with its SHA-256, and the exact counts.

    `complete` is False when something is missing of what was asked for; then there is no _SUCCESS.
    `ended` says why the run has not used up its input, or has used it up too soon: BudgetSpent,
    TargetReached, TargetMissed. `tally` includes what was paid for records that were not finished.
    """

    run_id: str
    job: str
    version: str
    pipeline_hash: str
    schema_version: str
    complete: bool
    shards: int
    finished_shards: int
    records: int
    tally: Tally
    columns: dict[str, str]
    data: tuple[ledger.CommittedFile, ...]
    errors: tuple[ledger.CommittedFile, ...]
    input_files: tuple[plan_file.InputFile, ...]
    # What it takes to replay the failed records: `input` is the job's, None if it was generated.
    steps: tuple[plan_file.StepIdentity, ...] = ()
    whole: str = ""
    input: dict[str, Any] | None = None
    replays: plan_file.EarlierRun | None = None
    ended: str = ""
    # Files of the input's folder that were not read, by their ending.
    left_out: dict[str, int] = {}
    cost_usd: float | None = msgspec.field(default=None, name="costUSD")


DECODER = msgspec.json.Decoder(RunManifest)
