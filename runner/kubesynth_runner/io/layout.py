"""Names in an output folder.

    run.json                         whose output this is (RunIdentity)
    data/part-00003-00000-RUN.parquet    rows: shard 3, part 0; only ever committed rows
    errors/part-00003-00000-RUN.jsonl    failed records, committed together with the part
    manifest.json report.md _SUCCESS written by finalize
    _kubesynth/RUN/owners/           one file per job that has resumed the run
                  /plan.json         the plan; partitions/HASH/00003.json is one shard's input
                  /capabilities/ROLE.json    what a server understands, asked once per run
                  /shards/00003/claims/00000001    one empty-handed file per attempt: the fencing
                                                   token
                               /journal/00000001-00000.log   finished calls of that attempt
                               /batches/00000001-00000.json  a batch that answers are awaited from
                               /commits/00000.json           the commit record of a part
                               /staging/...                  files on their way to data/ and errors/
                               /manifest.json                the shard is finished
                               /leases/JOB.json              what it may use of a job's limits
                       /99999/                               the same for what plan generates

RUN is a hash of the run's id. It keeps apart what must never mix: a pod that still writes for a run
whose output has been overwritten finds none of the new run's files under its names.

Readers of datasets skip names that start with an underscore, so the folder's data/ is a dataset.
"""

from __future__ import annotations

import dataclasses

import xxhash

RUN = "run.json"
MANIFEST = "manifest.json"
REPORT = "report.md"
SUCCESS = "_SUCCESS"
DATA = "data"
ERRORS = "errors"
INTERNAL = "_kubesynth"
# The work of plan itself, where input is generated, is kept like that of a shard of this number.
PLAN_SHARD = 99_999


def token(text: str) -> str:
    """Return a short name for a text, made of hexadecimal digits."""
    return xxhash.xxh3_64_hexdigest(text.encode())[:10]


@dataclasses.dataclass(frozen=True, slots=True)
class RunLayout:
    """Names of one run's files."""

    run_id: str

    @property
    def folder(self) -> str:
        """The run's own state."""
        return f"{INTERNAL}/{token(self.run_id)}"

    @property
    def plan(self) -> str:
        """The plan."""
        return f"{self.folder}/plan.json"

    def owner(self, uid: str) -> str:
        """Return the file that makes a job an owner of the run."""
        return f"{self.folder}/owners/{token(uid)}"

    def partition(self, version: str, shard: int) -> str:
        """Return the path of a shard's partition; `version` is the plan's."""
        return f"{self.folder}/partitions/{version}/{shard:05d}.json"

    def capabilities(self, role: str) -> str:
        """Return the path of what the server of a model role understands."""
        return f"{self.folder}/capabilities/{role}.json"

    @property
    def shards(self) -> str:
        """The folder of the shards' state."""
        return f"{self.folder}/shards"

    def shard(self, index: int) -> str:
        """Return the folder of a shard's own state."""
        return f"{self.shards}/{index:05d}"

    def claims(self, index: int) -> str:
        """Return the folder of a shard's claims."""
        return f"{self.shard(index)}/claims"

    def claim(self, index: int, epoch: int) -> str:
        """Return the path of the claim that makes `epoch` the shard's newest writer."""
        return f"{self.claims(index)}/{epoch:08d}"

    def journal(self, index: int) -> str:
        """Return the folder of a shard's journal segments."""
        return f"{self.shard(index)}/journal"

    def journal_segment(self, index: int, epoch: int, sequence: int) -> str:
        """Return the path of one journal segment."""
        return f"{self.journal(index)}/{epoch:08d}-{sequence:05d}.log"

    def batches(self, index: int) -> str:
        """Return the folder of a shard's batches at a batch API."""
        return f"{self.shard(index)}/batches"

    def commit(self, index: int, part: int) -> str:
        """Return the path of a part's commit record."""
        return f"{self.shard(index)}/commits/{part:05d}.json"

    def staging(self, index: int) -> str:
        """Return the folder where a shard's files wait for their commit."""
        return f"{self.shard(index)}/staging"

    def staged(self, index: int, epoch: int, name: str) -> str:
        """Return where a file waits for its commit."""
        return f"{self.staging(index)}/{epoch:08d}-{name}"

    def shard_manifest(self, index: int) -> str:
        """Return the path of the record that a shard is finished."""
        return f"{self.shard(index)}/manifest.json"

    def is_part(self, path: str) -> bool:
        """Return whether a path is that of a part of this run."""
        return f"-{token(self.run_id)}." in path.rsplit("/", 1)[-1]

    def part_name(self, index: int, part: int, extension: str) -> str:
        """Return a part file's name, unique in the output."""
        return f"part-{index:05d}-{part:05d}-{token(self.run_id)}.{extension}"

    def lease(self, index: int, uid: str) -> str:
        """Return the path of what a shard was last leased by a job."""
        return f"{self.shard(index)}/leases/{token(uid)}.json"
