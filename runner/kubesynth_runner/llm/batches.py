"""OpenAI's Batch API, through OpenAI's own client: files, batches, and nothing that is hot.

The SDK is imported when the first batch is: it takes longer to load than all of the runner.
Whatever fails leaves as a `ClientError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kubesynth_runner.llm.batch_wire import URL
from kubesynth_runner.llm.classify import classify
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIEndpoint, tls_context

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

COMPLETION_WINDOW: Literal["24h"] = "24h"
# The key of a batch's metadata that tells whose it is.
METADATA_KEY = "kubesynth"
# A batch whose id was lost is looked for among so many of the newest.
SEARCHED_BATCHES = 2000
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclasses.dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as the server sees it. `errors` are (code, message) of the batch as a whole."""

    batch_id: str
    status: str
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    input_file_id: str | None = None
    errors: tuple[tuple[str, str], ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in _ENDED


class BatchApi(Protocol):
    """A server's batches. Every method raises ClientError."""

    async def upload(self, path: Path, name: str) -> str:
        """Upload an input file and return its id."""
        ...

    async def create(self, file_id: str, token: str) -> BatchState:
        """Begin a batch, once; `find` it by `token`."""
        ...

    async def find(self, token: str) -> BatchState | None:
        """Return the batch that was created with a token, None if there is none."""
        ...

    async def look(self, batch_id: str) -> BatchState:
        """Return how a batch stands."""
        ...

    def read_lines(self, file_id: str) -> AsyncIterator[bytes]:
        """Yield the lines of a file."""
        ...

    async def delete_file(self, file_id: str) -> None:
        """Delete a file."""
        ...

    async def close(self) -> None:
        """Close connections. Safe to repeat."""
        ...


class OpenAIBatchApi:
    """A `BatchApi` over HTTP. One instance per event loop."""

    def __init__(self, endpoint: OpenAIEndpoint) -> None:
        self._endpoint = endpoint
        self._made: AsyncOpenAI | None = None

    @property
    def _client(self) -> AsyncOpenAI:
        if self._made is None:
            import openai

            endpoint = self._endpoint
            tls = tls_context(endpoint)
            self._made = openai.AsyncOpenAI(
                api_key=(endpoint.api_key or "none").strip(),
                base_url=endpoint.base_url,
                default_headers=dict(endpoint.headers),
                timeout=endpoint.request_timeout_seconds,
                http_client=openai.DefaultAsyncHttpxClient(verify=tls) if tls else None,
            )
        return self._made

    async def upload(self, path: Path, name: str) -> str:
        """Upload an input file and return its id."""
        with self._translated(), path.open("rb") as data:
            file = await self._client.files.create(file=(name, data), purpose="batch")
            return file.id

    async def create(self, file_id: str, token: str) -> BatchState:
        """Begin a batch, once: a request that may have arrived is not repeated."""
        with self._translated():
            batch = await self._client.with_options(max_retries=0).batches.create(
                input_file_id=file_id,
                endpoint=URL,
                completion_window=COMPLETION_WINDOW,
                metadata={METADATA_KEY: token},
            )
            return _state(batch)

    async def find(self, token: str) -> BatchState | None:
        """Return the batch that was created with a token, None if there is none."""
        with self._translated():
            seen = 0
            async for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get(METADATA_KEY) == token:
                    return _state(batch)
                seen += 1
                if seen >= SEARCHED_BATCHES:
                    break
        return None

    async def look(self, batch_id: str) -> BatchState:
        """Return how a batch stands."""
        with self._translated():
            return _state(await self._client.batches.retrieve(batch_id))

    async def read_lines(self, file_id: str) -> AsyncIterator[bytes]:
        """Yield the lines of a file, which may be larger than memory."""
        with self._translated():
            files = self._client.files.with_streaming_response
            async with files.content(file_id) as response:
                rest = b""
                async for piece in response.iter_bytes():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield line
                if rest.strip():
                    yield rest

    async def delete_file(self, file_id: str) -> None:
        """Delete a file."""
        with self._translated():
            await self._client.files.delete(file_id)

    async def close(self) -> None:
        """Close connections. Safe to repeat."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx2
        import openai

        try:
            yield
        except openai.APIStatusError as exc:
            key = (self._endpoint.api_key or "").strip()
            text = exc.response.text if exc.response.is_closed else str(exc)
            text = text.replace(key, "[apiKey]") if key else text
            failure = classify(exc.status_code, text)
            raise ClientError(
                failure.kind,
                f"{failure.message} [{exc.request.method} {exc.request.url}]",
                status_code=exc.status_code,
                body=text,
            ) from exc
        # While a body is read, the errors of the client beneath come through as they are.
        except (openai.APITimeoutError, httpx2.TimeoutException) as exc:
            raise ClientError(ErrorKind.TIMEOUT, f"no answer in time: {exc}") from exc
        except (openai.OpenAIError, httpx2.RequestError) as exc:
            raise ClientError(ErrorKind.CONNECTION, f"the connection failed: {exc}") from exc


def _state(batch: Batch) -> BatchState:
    counts: Any = batch.request_counts
    problems = (batch.errors.data if batch.errors else None) or ()
    return BatchState(
        batch.id,
        batch.status,
        counts.total if counts else 0,
        counts.completed if counts else 0,
        counts.failed if counts else 0,
        batch.output_file_id,
        batch.error_file_id,
        batch.input_file_id,
        tuple((problem.code or "", problem.message or "") for problem in problems),
    )
