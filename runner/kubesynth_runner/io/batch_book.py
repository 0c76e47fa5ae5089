"""Which batches a shard has under way: written down before anybody waits for them.

Each is one small file. It is there before the batch is created, with a token that goes along, so
that a batch whose id was lost with its writer can be found again; it is gone when the batch's
answers are in the journal. Names hold the writer's epoch, so two writers never share one.
"""

from __future__ import annotations

import itertools

import msgspec

from kubesynth_runner.io import layout
from kubesynth_runner.io.storage import Storage


class OpenBatch(msgspec.Struct, frozen=True, rename="camel"):
    """A batch that was, or is about to be, created."""

    role: str
    token: str
    requests: int
    file_id: str
    batch_id: str | None = None


_decoder = msgspec.json.Decoder(OpenBatch)


class BatchBook:
    """The open batches of one shard. Blocking."""

    def __init__(self, storage: Storage, run_id: str, shard: int, epoch: int) -> None:
        self._storage = storage
        self._folder = layout.RunLayout(run_id).batches(shard)
        self._epoch = epoch
        # Models add their batches in threads of their own: no two get the same number.
        self._numbers = itertools.count()

    def load(self) -> dict[str, OpenBatch]:
        """Return the open batches of all writers, by path."""
        found = {}
        for file in self._storage.list_files(self._folder):
            try:
                data = self._storage.read(file.path)
            except FileNotFoundError:  # an older writer, not stopped yet, is done with it
                continue
            found[file.path] = _decoder.decode(data)
        return found

    def add(self, batch: OpenBatch) -> str:
        """Write a new batch down and return its path."""
        path = f"{self._folder}/{self._epoch:08d}-{next(self._numbers):05d}.json"
        self.put(path, batch)
        return path

    def put(self, path: str, batch: OpenBatch) -> None:
        """Replace what is known of a batch."""
        self._storage.put(path, msgspec.json.encode(batch))

    def remove(self, path: str) -> None:
        """Forget a batch: its answers are in the journal, or there will be none."""
        self._storage.delete(path)
