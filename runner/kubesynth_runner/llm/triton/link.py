"""Calls to one endpoint: connections, metadata, deadlines, and failures as `ClientError`."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import grpc

from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton import answers, status, wire
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint

# For questions about a model, which cost the server nothing.
ASK_TIMEOUT_SECONDS = 10.0
# Asks for gRPC's own status codes in streams, instead of a text (Triton since 24.08).
_STREAM_ERRORS = ("triton_grpc_error", "true")


class AnswersAsStreamError(Exception):
    """The model is decoupled, though nothing has said so."""


class Link:
    """The connections to an endpoint, opened with the first call. One instance per event loop.

    Raises:
        ClientError: AUTHENTICATION, the endpoint's CA bundle cannot be read.
    """

    def __init__(self, endpoint: TritonEndpoint) -> None:
        self._endpoint = endpoint
        self._ca_pem = _authorities(endpoint)
        self._metadata = endpoint.metadata()
        self._connections: list[wire.Connection] = []
        self._turns = itertools.count()

    async def ask(self, method: str, **fields: Any) -> Any:
        """Ask about a model: ModelReady, ModelMetadata, ModelConfig or RepositoryIndex."""
        timeout = min(ASK_TIMEOUT_SECONDS, self._endpoint.request_timeout_seconds)
        call = self._connection().unary(method)
        return await self._call(call, wire.MESSAGES[f"{method}Request"](**fields), timeout)

    async def infer(self, request: Any, completion: str) -> answers.Answer:
        """Send a request to a model that gives one response.

        Raises:
            AnswersAsStreamError: it gives any number of them.
        """
        timeout = self._endpoint.request_timeout_seconds
        response = await self._call(self._connection().unary("ModelInfer"), request, timeout)
        return answers.read(response, completion)

    async def stream(self, request: Any, completion: str) -> answers.Answer:
        """Send a request on a stream of its own, which ends with its last response."""
        timeout = self._endpoint.request_timeout_seconds
        call = self._connection().stream_infer(
            _once(request),
            timeout=timeout,
            metadata=(*self._metadata, _STREAM_ERRORS),
        )
        parts = []
        try:
            async for response in call:
                if response.error_message:
                    raise status.stream_failure(response.error_message, where=self._endpoint.where)
                parts.append(answers.read(response.infer_response, completion))
        except grpc.aio.AioRpcError as exc:
            raise self._failure(exc, timeout) from exc
        finally:
            call.cancel()  # it may be an error, or ours, that ended this
        return answers.join(parts)

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.close()

    async def _call(self, method: Any, request: Any, timeout_seconds: float) -> Any:
        try:
            return await method(request, timeout=timeout_seconds, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            if status.refuses_unary(exc.code().name, exc.details() or ""):
                raise AnswersAsStreamError from exc
            raise self._failure(exc, timeout_seconds) from exc

    def _failure(self, exc: grpc.aio.AioRpcError, timeout_seconds: float) -> ClientError:
        details = exc.details() or ""
        token = (self._endpoint.token or "").strip()
        if token:
            details = details.replace(token, "[apiKey]")
        return status.failure(
            exc.code().name,
            details,
            where=self._endpoint.where,
            timeout_seconds=timeout_seconds,
            wait_seconds=_wait_seconds(exc),
        )

    def _connection(self) -> wire.Connection:
        if not self._connections:
            endpoint = self._endpoint
            options = wire.ChannelOptions(
                endpoint.address,
                self._ca_pem,
                endpoint.max_message_bytes,
                endpoint.keepalive_seconds,
                use_proxy=not endpoint.is_loopback,
            )
            self._connections = [wire.Connection(options) for _ in range(endpoint.connections)]
        return self._connections[next(self._turns) % len(self._connections)]


async def _once(request: Any) -> Any:
    yield request


def _authorities(endpoint: TritonEndpoint) -> bytes | None:
    """Return the certificate authorities to trust, None for a connection without TLS."""
    if not endpoint.has_tls:
        return None
    path = endpoint.ca_bundle_path
    if path is None:
        return wire.system_authorities()
    try:
        return wire.read_authorities(path)
    except OSError as exc:  # ssl.SSLError among them
        raise ClientError(
            ErrorKind.AUTHENTICATION,
            f"caBundle {path} holds no certificate authority in PEM: {exc}",
        ) from exc


def _wait_seconds(exc: grpc.aio.AioRpcError) -> float | None:
    """Return how long a server, or a gateway before it, asks to wait."""
    trailing = {str(key): value for key, value in exc.trailing_metadata() or ()}
    for name, unit in (("grpc-retry-pushback-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return max(0.0, float(trailing[name]) / unit)
    return None
