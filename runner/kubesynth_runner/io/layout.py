"""Names in an output folder.

    run.json                         whose output this is (RunIdentity)
    data/part-00003-00000.parquet    rows: shard 3, part 0; only ever committed rows
    errors/part-00003-00000.jsonl    failed records, committed together with the part
    manifest.json report.md _SUCCESS written by finalize
    _kubesynth/plan.json             the plan; partitions/00003.json is one shard's input
    _kubesynth/capabilities/ROLE.json what a server understands, asked once per run
    _kubesynth/shards/00003/claims/00000001    one empty-handed file per attempt: the fencing token
                           /journal/00000001-00000.log   finished calls of that attempt
                           /commits/00000.json           the commit record of a part
                           /staging/...                  files on their way to data/ and errors/
                           /manifest.json                the shard is finished

Readers of datasets skip names that start with an underscore, so the folder's data/ is a dataset.
"""

from __future__ import annotations

RUN = "run.json"
MANIFEST = "manifest.json"
REPORT = "report.md"
SUCCESS = "_SUCCESS"
DATA = "data"
ERRORS = "errors"
INTERNAL = "_kubesynth"
PLAN = f"{INTERNAL}/plan.json"


def partition(shard: int) -> str:
    """Return the path of a shard's partition."""
    return f"{INTERNAL}/partitions/{shard:05d}.json"


def capabilities(role: str) -> str:
    """Return the path of what the server of a model role understands."""
    return f"{INTERNAL}/capabilities/{role}.json"


def shard(index: int) -> str:
    """Return the folder of a shard's own state."""
    return f"{INTERNAL}/shards/{index:05d}"


def claim(index: int, epoch: int) -> str:
    """Return the path of the claim that makes `epoch` the shard's newest writer."""
    return f"{shard(index)}/claims/{epoch:08d}"


def journal_folder(index: int) -> str:
    """Return the folder of a shard's journal segments."""
    return f"{shard(index)}/journal"


def journal_segment(index: int, epoch: int, sequence: int) -> str:
    """Return the path of one journal segment."""
    return f"{journal_folder(index)}/{epoch:08d}-{sequence:05d}.log"


def commit(index: int, part: int) -> str:
    """Return the path of a part's commit record."""
    return f"{shard(index)}/commits/{part:05d}.json"


def staged(index: int, epoch: int, name: str) -> str:
    """Return where a file waits for its commit."""
    return f"{shard(index)}/staging/{epoch:08d}-{name}"


def shard_manifest(index: int) -> str:
    """Return the path of the record that a shard is finished."""
    return f"{shard(index)}/manifest.json"


def part_name(index: int, part: int, extension: str) -> str:
    """Return a part file's name, unique in the run."""
    return f"part-{index:05d}-{part:05d}.{extension}"
