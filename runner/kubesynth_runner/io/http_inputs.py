"""A single input file on a web server.

Where the server answers ranges the file is read like an object of a store. Elsewhere it is
downloaded once, to a temporary file that has a greatest size. No credentials are sent but those
that a signed URL carries in its query, which is no part of the file's name.
"""

from __future__ import annotations

import os
import re
import ssl
import tempfile
import threading
import weakref
from http import HTTPStatus
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import urllib3
import xxhash
from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, ResponseError, SSLError
from urllib3.util import Retry, Timeout

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import input_files
from kubesynth_runner.io.contents import Content, RangedContent
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.object_stores import first_line, read_ca_bundle
from kubesynth_runner.io.plan_file import InputFile
from kubesynth_runner.proxies import proxy_for

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

# What a pod's /tmp has room for, beside what others put there.
DOWNLOAD_MAX_BYTES = 768 << 20
_PIECE_BYTES = 1 << 20
# Answers that break off; what cannot be reached at all is tried again by RETRIES.
_READ_ATTEMPTS = 5
_TIMEOUT = Timeout(connect=10.0, read=60.0)
# About a minute altogether; then the attempt ends, and the next one goes on.
RETRIES = Retry(
    total=8,
    redirect=5,
    other=0,
    backoff_factor=0.5,
    backoff_max=20,
    backoff_jitter=0.5,
    status_forcelist=(408, 425, 429, 500, 502, 503, 504),
    raise_on_status=False,
    retry_after_max=60,
)
_CONTENT_RANGE = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_CONNECTIONS = 32
_HAS_NO_RANGES = (HTTPStatus.OK, HTTPStatus.NOT_IMPLEMENTED)


class HttpInput:
    """One file at a URL. May be used from several threads."""

    def __init__(self, spec: InputSpec, mounts: Mounts) -> None:
        """Connect to nothing.

        Raises:
            ConfigurationError: the URL or the certificates cannot be used.
        """
        try:
            parts = urlsplit(spec.uri)
        except ValueError as exc:
            raise _unreadable(f"{spec.uri} is no URL: {exc}") from exc
        if parts.username is not None or parts.password is not None:
            raise _unreadable("a URL must not hold a user and a password; they are not sent")
        self._format = spec.format
        self._url = parts._replace(fragment="").geturl()
        self._name = parts._replace(query="", fragment="").geturl()
        self._pool = _open_pool(spec, mounts, parts.scheme, parts.hostname or "")
        self.left_out = input_files.LeftOut()  # there are no folders
        self._lock = threading.Lock()
        self._download: tuple[InputFile, Content] | None = None
        self._file: IO[bytes] | None = None

    def find(self) -> list[InputFile]:
        """Return the file, with its size and version as the server tells them."""
        file_format = input_files.file_format(self._name, self._format)
        if file_format is None:
            raise input_files.unknown_format(self._name)
        file = InputFile(self._name, file_format, 0, "")
        return [self._look(file) or self._downloaded(file)[0]]

    def open(self, file: InputFile) -> Content:
        """Return the planned file's content, downloaded first if there are no ranges."""
        now = self._look(file)
        if now is None:
            now, content = self._downloaded(file)
        else:
            content = RangedContent(
                file.size_bytes, lambda start, end: self._fetch(file, start, end)
            )
        input_files.check_version(file, now.version)
        return content

    def _look(self, file: InputFile) -> InputFile | None:
        """Ask for the first byte: return what the answer says, or None without ranges."""
        answer = self._get("bytes=0-0")
        try:
            if answer.status in _HAS_NO_RANGES:
                return None
            size = _whole_size(answer)
            if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size != 0:
                return None
            return None if size is None else _described(file, size, answer, "")
        finally:
            answer.close()

    def _fetch(self, file: InputFile, start: int, end: int) -> bytes:
        """Return a range of the file, having made sure that it is still the same."""
        problem = ""
        for _ in range(_READ_ATTEMPTS):
            answer = self._get(f"bytes={start}-{end - 1}")
            try:
                size = _whole_size(answer)
                if answer.status != HTTPStatus.PARTIAL_CONTENT or size is None:
                    raise errors.RetryLaterError(
                        Reason.INPUT_UNREADABLE,
                        f"input.uri {self._name}: asked for a range, the server answers "
                        f"{answer.status}",
                    )
                input_files.check_version(file, _described(file, size, answer, "").version)
                data = answer.read(decode_content=False)
                if len(data) == end - start:
                    return data
                problem = f"{len(data)} of {end - start} bytes came"
            except HTTPError as exc:
                problem = first_line(exc)
            finally:
                answer.close()
        raise errors.RetryLaterError(Reason.INPUT_UNREADABLE, f"input.uri {self._name}: {problem}")

    def _downloaded(self, file: InputFile) -> tuple[InputFile, Content]:
        with self._lock:
            if self._download is None:
                self._download = self._download_now(file)
            return self._download

    def _download_now(self, file: InputFile) -> tuple[InputFile, Content]:
        """Read the whole file into one without a name, which is gone with its last user."""
        target: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        weakref.finalize(self, target.close)
        self._file = target
        problem = ""
        for _ in range(_READ_ATTEMPTS):
            target.seek(0)
            target.truncate()
            answer = self._get(None)
            try:
                size, content_hash = self._copy(answer, target)
                known = _described(file, size, answer, content_hash)
            except HTTPError as exc:
                problem = first_line(exc)
                continue
            finally:
                answer.close()
            return known, RangedContent(size, self._read_file)
        raise errors.RetryLaterError(Reason.INPUT_UNREADABLE, f"input.uri {self._name}: {problem}")

    def _read_file(self, start: int, end: int) -> bytes:
        assert self._file is not None, "downloaded"
        return os.pread(self._file.fileno(), end - start, start)

    def _copy(self, answer: BaseHTTPResponse, target: IO[bytes]) -> tuple[int, str]:
        """Write an answer's body to a file; return its size and a hash of it."""
        size, content_hash = 0, xxhash.xxh3_64()
        for piece in answer.stream(_PIECE_BYTES, decode_content=False):
            size += len(piece)
            if size > DOWNLOAD_MAX_BYTES:
                raise _unreadable(
                    f"{self._name}: the server does not answer ranges, and more than "
                    f"{DOWNLOAD_MAX_BYTES >> 20} MiB cannot be downloaded; use a server that "
                    "does, an object store or a volume claim"
                )
            content_hash.update(piece)
            try:
                target.write(piece)
            except OSError as exc:
                raise errors.RetryLaterError(
                    Reason.INPUT_UNREADABLE, f"{self._name}: no room to download it: {exc}"
                ) from exc
        return size, content_hash.hexdigest()

    def _get(self, wanted: str | None) -> BaseHTTPResponse:
        """Ask for the file, or for a range of it; refuse answers that are neither."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "kubesynth"}
        if wanted is not None:
            headers["Range"] = wanted
        try:
            answer = self._pool.request(
                "GET", self._url, headers=headers, preload_content=False, redirect=True
            )
        except MaxRetryError as exc:
            raise self._unreachable(exc.reason or exc) from exc
        except (HTTPError, LocationParseError) as exc:
            raise self._unreachable(exc) from exc
        problem = self._problem(answer)
        if problem is not None:
            answer.close()
            raise problem
        return answer

    def _unreachable(self, exc: Exception) -> errors.RunnerError:
        said = f"{self._name}: {first_line(exc)}"
        if isinstance(exc, SSLError):
            return _unreadable(
                f"{said}; if its certificate is not a public one, set input.storage.caBundle"
            )
        if isinstance(exc, ResponseError | LocationParseError):
            return _unreadable(said)
        return errors.RetryLaterError(Reason.INPUT_UNREADABLE, f"input.uri {said}")

    def _problem(self, answer: BaseHTTPResponse) -> errors.RunnerError | None:
        status = answer.status
        said = f"{self._name}: the server answers {status} {answer.reason or ''}".rstrip()
        arrived = answer.geturl() or ""
        if self._url.startswith("https:") and arrived.startswith("http:"):
            return _unreadable(f"{self._name} redirects to an address without TLS, {arrived}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return _unreadable(
                f"{said}; kubesynth sends no credentials to web servers: use a signed URL, an "
                "object store or a volume claim"
            )
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return _unreadable(f"{said}: the proxy wants a user and a password in its URL")
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return _unreadable(f"{said}; there is no such file")
        is_encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
        if is_encoded and not self._name.lower().endswith(".gz"):
            return _unreadable(f"{said}, but compressed, which was not asked for")
        if status in RETRIES.status_forcelist:
            return errors.RetryLaterError(Reason.INPUT_UNREADABLE, f"input.uri {said}")
        known = (*_HAS_NO_RANGES, HTTPStatus.PARTIAL_CONTENT)
        if status in known or status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        return _unreadable(said)


def _open_pool(
    spec: InputSpec, mounts: Mounts, scheme: str, host: str
) -> urllib3.PoolManager | urllib3.ProxyManager:
    """Return connections that heed HTTPS_PROXY and NO_PROXY, as the stores' clients do."""
    context = ssl.create_default_context()
    bundle = read_ca_bundle(spec.storage, mounts, "input")
    if bundle is not None:
        try:
            context.load_verify_locations(cadata=bundle.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError) as exc:
            raise _unreadable(f"input.storage.caBundle holds no certificates: {exc}") from exc
    proxy = proxy_for(scheme, host)
    if proxy:
        return urllib3.ProxyManager(
            proxy,
            ssl_context=context,
            retries=RETRIES,
            timeout=_TIMEOUT,
            maxsize=_CONNECTIONS,
            proxy_headers=_proxy_headers(proxy),
        )
    return urllib3.PoolManager(
        ssl_context=context, retries=RETRIES, timeout=_TIMEOUT, maxsize=_CONNECTIONS
    )


def _proxy_headers(proxy: str) -> dict[str, str]:
    """Return what a proxy is told of the user in its URL; urllib3 does not by itself."""
    user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    if not at:
        return {}
    return dict(urllib3.make_headers(proxy_basic_auth=unquote(user)))


def _whole_size(answer: BaseHTTPResponse) -> int | None:
    """Return the size of the whole file that a range is a part of, if it is told."""
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def _described(
    file: InputFile, size: int, answer: BaseHTTPResponse, content_hash: str
) -> InputFile:
    """Return the file with its size and version: ETag, time of change, or hash of what came."""
    tag = answer.headers.get("ETag")
    known = input_files.plain_etag(tag) if tag else answer.headers.get("Last-Modified", "")
    version = f"{size}-{known or content_hash}"
    return InputFile(file.uri, file.format, size, version)


def _unreadable(message: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(Reason.INPUT_UNREADABLE, f"input.uri {message}")
