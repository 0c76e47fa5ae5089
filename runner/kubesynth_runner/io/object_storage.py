"""A prefix in a bucket: S3 and compatible stores, Google Cloud Storage, Azure Blob Storage.

Objects have no rename and no append. A commit is a PUT with `If-None-Match: *` (on Google's store
`x-goog-if-generation-match: 0`), which the store itself makes exclusive. A log is a folder of
numbered objects, one per flush; a move is a copy on the server and a delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore import exceptions

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io.object_stores import missing_bucket, store_error
from kubesynth_runner.io.object_uploads import ObjectLog, StagedObject
from kubesynth_runner.io.storage import StoredFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ResultT = TypeVar("ResultT")

# An answer "somebody else is just creating it" (S3's 409) may be followed by nobody having done so.
_CREATE_ATTEMPTS = 5
# A folder of objects goes one request an object: a log has thousands.
_DELETES_AT_ONCE = 16
# What a store, or the client for it, says to a range that begins behind the object's end.
_BEYOND_END = ("416 Range Not Satisfiable", "Wanted range starting at")


class ObjectStorage:
    """The `Storage` of a prefix in a bucket. Blocking; may be used from several threads."""

    is_remote = True

    def __init__(self, store: ObjectStore, copier: ObjectStore, prefix: str, uri: str) -> None:
        """`store` is the whole bucket; `uri` is what people call the prefix in it.

        `copier` is the bucket once more, with more patience: it copies within it.
        """
        self._store = store
        self._copier = copier
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = uri
        # Logs that this process writes: their path is no object's.
        self._logs: dict[str, ObjectLog] = {}

    def _key(self, path: str) -> str:
        return self._prefix + path

    def call(self, action: Callable[[], ResultT]) -> ResultT:
        """Run an operation of the store, which has been repeated if that could help.

        Raises:
            FileNotFoundError: there is no such object.
            ConfigurationError: the store refuses us.
            RetryLaterError: it is not available.
        """
        try:
            return action()
        except FileNotFoundError:
            raise
        except exceptions.BaseError as exc:
            raise store_error(exc, "output", self.uri) from exc

    def write(self, action: Callable[[], ResultT]) -> ResultT:
        """Run an operation that finds nothing only if the bucket itself is missing."""
        try:
            return self.call(action)
        except FileNotFoundError as exc:
            raise missing_bucket(exc, "output", self.uri) from exc

    def read(self, path: str) -> bytes:
        """Return a whole object."""
        return self.call(lambda: bytes(obstore.get(self._store, self._key(path)).bytes()))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Return part of an object, or of a log of our own."""
        log = self._logs.get(path)
        if log is not None:
            path, offset = log.locate(offset)
        if length <= 0:
            return b""
        return self.call(lambda: self._read_range(path, offset, length))

    def _read_range(self, path: str, offset: int, length: int) -> bytes:
        try:
            return bytes(
                obstore.get_range(self._store, self._key(path), start=offset, length=length)
            )
        except exceptions.BaseError as exc:
            if any(said in str(exc) for said in _BEYOND_END):
                return b""
            raise

    def exists(self, path: str) -> bool:
        """Return whether there is such an object."""
        try:
            self.call(lambda: obstore.head(self._store, self._key(path)))
        except FileNotFoundError:
            return False
        return True

    def list_files(self, folder: str) -> list[StoredFile]:
        """Return the objects below a folder."""
        return self.write(lambda: sorted(self._walk(folder), key=lambda file: file.path))

    def _walk(self, folder: str) -> Iterator[StoredFile]:
        for page in obstore.list(self._store, f"{self._key(folder).rstrip('/')}/"):
            for meta in page:
                yield StoredFile(meta["path"].removeprefix(self._prefix), meta["size"])

    def create(self, path: str, data: bytes) -> bool:
        """Create an object if there is none.

        When the answer to our own request was lost and it was sent again, the store says that the
        object exists: equal content means that it is ours.
        """
        for _ in range(_CREATE_ATTEMPTS):
            if self.write(lambda: self._create(path, data)):
                return True
            try:
                return self.read(path) == data
            except FileNotFoundError:
                continue
        raise errors.RetryLaterError(
            Reason.OUTPUT_UNWRITABLE,
            f"output.uri {self.uri}: {path} can be neither created nor read",
        )

    def _create(self, path: str, data: bytes) -> bool:
        try:
            obstore.put(self._store, self._key(path), data, mode="create", use_multipart=False)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            return False
        return True

    def put(self, path: str, data: bytes) -> None:
        """Create or replace an object."""
        self.write(lambda: obstore.put(self._store, self._key(path), data, use_multipart=False))

    def open_staged(self, path: str) -> StagedObject:
        """Open a new object, which appears when it is finished."""
        return StagedObject(
            lambda data: self.put(path, data),
            lambda: obstore.open_writer(self._store, self._key(path)),
            self.write,
        )

    def append_log(self, path: str) -> ObjectLog:
        """Open a new log: objects `path`/000000 and on."""
        log = self._logs[path] = ObjectLog(path, self.put)
        return log

    def publish(self, staged: str, final: str) -> None:
        """Copy on the server, then delete; a missing source means that somebody else has."""
        try:
            self.call(lambda: obstore.copy(self._copier, self._key(staged), self._key(final)))
        except FileNotFoundError:
            if not self.exists(final):
                raise FileNotFoundError(f"{self.uri}/{staged}") from None
            return
        self._delete_one(staged)

    def delete(self, path: str) -> None:
        """Delete an object and everything below it as a folder."""
        self._logs.pop(path, None)
        paths = [path, *(file.path for file in self.list_files(path))]
        if len(paths) == 1:
            self._delete_one(path)
            return
        # Not the stores' own bulk request: not all that call themselves S3 have it.
        with ThreadPoolExecutor(min(len(paths), _DELETES_AT_ONCE), "delete") as pool:
            list(pool.map(self._delete_one, paths))

    def _delete_one(self, path: str) -> None:
        """Delete an object; one that somebody else deletes meanwhile is gone, whatever is said.

        The client asks S3 for the deletion of a list of one, whose answer names errors in its body:
        some stores answer NoSuchKey there when another request was faster.
        """
        try:
            self.call(lambda: obstore.delete(self._store, self._key(path)))
        except FileNotFoundError:
            return
        except errors.RunnerError:
            if self.exists(path):
                raise
