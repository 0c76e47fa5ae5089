"""Input files in an object store: S3 and compatible stores, Google Cloud Storage, Azure Blob.

Patterns are matched against listings, a thousand objects a request. An object's version is its size
and ETag as the listing tells them; every answer while reading tells them again, so that no request
is made only to look.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import obstore
from obstore import exceptions

from kubesynth_api import uris
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import input_files, patterns
from kubesynth_runner.io.contents import Content, RangedContent
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.object_stores import missing_bucket, open_bucket, store_error
from kubesynth_runner.io.plan_file import InputFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore


class ObjectInput:
    """The input's bucket. May be used from several threads."""

    def __init__(self, spec: InputSpec, mounts: Mounts) -> None:
        """Connect to nothing.

        Raises:
            ConfigurationError: `input.storage` cannot be used.
        """
        location = uris.parse(spec.uri)
        self._spec = spec
        self._bucket = f"{location.scheme}://{location.name}/"
        self._path = location.path
        self.left_out = input_files.LeftOut()
        self._store: ObjectStore = open_bucket(spec.uri, spec.storage, mounts, field="input")

    def find(self) -> list[InputFile]:
        """Return the objects that the URI means, sorted by URI."""
        try:
            found, is_folder = self._match()
        except FileNotFoundError as exc:
            raise missing_bucket(exc, "input", self._spec.uri) from exc
        except exceptions.BaseError as exc:
            raise store_error(exc, "input", self._spec.uri) from exc
        self.left_out.clear()
        files = []
        for meta in found:
            uri = self._bucket + meta["path"]
            file_format = input_files.file_format(uri, self._spec.format)
            if file_format is None and (is_folder or meta["size"] == 0):
                if meta["size"]:  # else it stands for a folder
                    self.left_out.count(uri)
                continue
            if file_format is None:
                raise input_files.unknown_format(uri)
            files.append(InputFile(uri, file_format, meta["size"], _version(meta)))
        return sorted(files, key=lambda file: file.uri)

    def _match(self) -> tuple[list[Mapping[str, Any]], bool]:
        """Return the objects that are meant, and whether they are all those of a folder."""
        pattern = self._path.rstrip("/")
        if pattern and not patterns.has_wildcard(pattern):
            try:
                return [obstore.head(self._store, pattern)], False
            except FileNotFoundError:
                pass  # a folder, or a name with brackets in it
        if not patterns.is_pattern(pattern):
            pattern, is_folder = f"{pattern}/**".lstrip("/"), True
        else:
            is_folder = False
        matches = patterns.matcher(pattern)
        return [meta for meta in self._list(pattern) if matches(meta["path"])], is_folder

    def _list(self, pattern: str) -> Iterator[Mapping[str, Any]]:
        folder, _, rest = patterns.split(pattern)
        prefix = f"{folder}/" if folder else None
        if "/" not in rest and rest != "**":  # of this folder alone, however much is below it
            yield from obstore.list_with_delimiter(self._store, prefix)["objects"]
            return
        for page in obstore.list(self._store, prefix):
            yield from page

    def open(self, file: InputFile) -> Content:
        """Return a planned object's content; asks the store only when it is read."""
        key = file.uri.removeprefix(self._bucket)

        def fetch(start: int, end: int) -> bytes:
            try:
                answer = obstore.get(self._store, key, options={"range": (start, end)})
                input_files.check_version(file, _version(answer.meta))
                data = bytes(answer.bytes())
            except FileNotFoundError as exc:
                raise input_files.gone(file) from exc
            except exceptions.BaseError as exc:
                if "range" in str(exc).lower():  # it ends before this range: it is another one
                    input_files.check_version(file, _version(self._head(file, key)))
                raise store_error(exc, "input", file.uri) from exc
            if len(data) != end - start:
                raise errors.RetryLaterError(
                    Reason.INPUT_UNREADABLE,
                    f"input file {file.uri}: the store sent {len(data)} of {end - start} bytes",
                )
            return data

        return RangedContent(file.size_bytes, fetch)

    def _head(self, file: InputFile, key: str) -> Mapping[str, Any]:
        try:
            return obstore.head(self._store, key)
        except FileNotFoundError as exc:
            raise input_files.gone(file) from exc
        except exceptions.BaseError as exc:
            raise store_error(exc, "input", file.uri) from exc


def _version(meta: Mapping[str, Any]) -> str:
    """Return the size and the ETag, which listings quote and answers do not, or the reverse."""
    tag = meta.get("e_tag")
    if tag:
        return f"{meta['size']}-{input_files.plain_etag(tag)}"
    modified = meta["last_modified"]
    assert isinstance(modified, datetime.datetime)
    return f"{meta['size']}-{modified.isoformat()}"
