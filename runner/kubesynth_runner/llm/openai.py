"""A chat client for OpenAI-compatible endpoints: vLLM, NIM, llama.cpp, hosted APIs.

aiohttp carries it because the client is the hot path: one shared connector, headers and timeouts
built once, no task per request. Every failure leaves as a `ClientError`; nothing else escapes but
cancellation. Requests are sent once: retries and pacing belong to the engine.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import re
import ssl
import time
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp
import yarl

from kubesynth_api.uris import version_advice
from kubesynth_api.v1alpha1.stages.judgement import RewardMethod
from kubesynth_api.version import VERSION
from kubesynth_runner.llm import probing, rate_limits, score_wire, wire
from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest
from kubesynth_runner.llm.classify import classify
from kubesynth_runner.llm.errors import BACKPRESSURE, ClientError, ErrorKind
from kubesynth_runner.llm.retry_after import retry_after_seconds
from kubesynth_runner.proxies import proxy_for

# Short, so that a Service with moved or added replicas is noticed.
DNS_CACHE_SECONDS = 10
# Below the 5 s after which uvicorn (vLLM, NIM) closes an idle connection: a request must not meet
# the server's FIN on its way.
KEEP_ALIVE_SECONDS = 4.0
# A server that gives completions up may go on to do so, on the connections that it has. So long
# after such an answer each connection is used once: the next one may lead to another server.
LEAVING_SECONDS = 10.0
# Servers without a list of models: it is optional to them, not to the API.
_NO_MODEL_LIST = frozenset({404, 405, 501})
_CREDENTIALS = re.compile(r"//[^/@\s'\"]*@")


@dataclasses.dataclass(frozen=True, slots=True)
class OpenAIEndpoint:
    """One model on one endpoint.

    `url` is the base with its `/v1`. `ca_bundle_path` is a PEM file that replaces the system's
    certificate authorities. `request_timeout_seconds` is for a whole request, its wait for a
    connection included. `max_connections` 0 is any number. With `azure_api_version` the endpoint
    is Azure OpenAI's: `url` is that of the resource, and `model` the deployment, unless `url` names
    one itself. A reward model (`reward_method`) scores conversations and takes no others.
    """

    url: str
    model: str
    api_key: str | None = dataclasses.field(default=None, repr=False)
    ca_bundle_path: Path | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    request_timeout_seconds: float = 300.0
    connect_timeout_seconds: float = 10.0
    max_connections: int = 32
    azure_api_version: str | None = None
    reward_method: RewardMethod | None = None

    @property
    def base_url(self) -> str:
        """The URL that `/chat/completions` comes after."""
        base = self.url.rstrip("/")
        if self.azure_api_version is None or "/deployments/" in base:
            return base
        deployment = urllib.parse.quote(self.model, safe="")
        return f"{base.removesuffix('/openai')}/openai/deployments/{deployment}"

    @property
    def advice(self) -> str:
        """What may be wrong with the URL where no API is found; "" if it looks as most do."""
        if self.azure_api_version is not None or self.reward_method not in (None, "Attributes"):
            return ""
        return version_advice(self.url)


@dataclasses.dataclass(frozen=True, slots=True)
class _Form:
    """How a model is asked: where, and what requests and answers look like."""

    url: yarl.URL
    encode: Callable[[str, CompletionRequest], bytes]
    decode: Callable[[bytes], Completion]
    api: str = "chat completions"


def _form(endpoint: OpenAIEndpoint) -> _Form:
    """Return how an endpoint's model is asked: as a chat model, or over an API for scores."""
    method = endpoint.reward_method
    if method is not None and method != "Attributes":
        return _Form(
            yarl.URL(score_wire.url(endpoint.base_url, method)),
            functools.partial(score_wire.encode_request, api=method),
            functools.partial(score_wire.decode, api=method),
            f"/{method.lower()}",
        )
    version = endpoint.azure_api_version
    query = "" if version is None else f"?api-version={version}"
    return _Form(
        yarl.URL(f"{endpoint.base_url}/chat/completions{query}"),
        wire.encode_request,
        functools.partial(wire.decode_completion, is_scored=method is not None),
    )


class OpenAIChatClient:
    """A `ChatClient` over HTTP. One instance per event loop.

    Raises:
        ClientError: AUTHENTICATION, the endpoint's CA bundle cannot be read.
    """

    def __init__(
        self, endpoint: OpenAIEndpoint, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._endpoint = endpoint
        self._now = now
        self._form = _form(endpoint)
        self._models_url = yarl.URL(f"{endpoint.base_url}/models")
        self._tls = tls_context(endpoint)
        self._proxy = _proxy_for(self._form.url)
        self._timeout = aiohttp.ClientTimeout(
            total=endpoint.request_timeout_seconds, sock_connect=endpoint.connect_timeout_seconds
        )
        self._session: aiohttp.ClientSession | None = None
        self._leaving_until = 0.0
        # Called with what an answer says of the server's limits, if it says something.
        self.on_rate_limits: Callable[[rate_limits.RateLimits], None] = lambda _: None

    @property
    def endpoint(self) -> OpenAIEndpoint:
        """Where it sends its requests."""
        return self._endpoint

    async def complete(self, request: CompletionRequest) -> Completion:
        """Send one chat completion, once."""
        form = self._form
        body = form.encode(self._endpoint.model, request)
        content = await self._exchange("POST", form.url, body)
        try:
            return form.decode(content)
        except ClientError as failure:
            if failure.kind is ErrorKind.OVERLOADED:
                self._leaving_until = time.monotonic() + LEAVING_SECONDS
            raise

    async def probe(self) -> Capabilities:
        """Check that the model is served, and whether the server holds it to a JSON schema."""
        # Azure lists the models that could be deployed, not the deployments.
        is_azure = self._endpoint.azure_api_version is not None
        served = () if is_azure else await self._list_models()
        if served and self._endpoint.model not in served:
            raise probing.not_served(self._endpoint.model, served, self._endpoint.url)
        if self._endpoint.reward_method is not None:
            await self.complete(probing.REWARD_REQUEST)
            return Capabilities(json_schema=False, models=served)
        return dataclasses.replace(await self._understood_schemas(), models=served)

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _list_models(self) -> tuple[str, ...]:
        try:
            answer = await self._exchange("GET", self._models_url, None)
        except ClientError as error:
            if error.status_code in _NO_MODEL_LIST:
                return ()
            raise
        return wire.decode_models(answer)

    async def _understood_schemas(self, limit_field: str = "max_tokens") -> Capabilities:
        """Find out which schemas the server takes. What it refuses costs nothing."""
        for bounds in (True, False):
            try:
                completion = await self.complete(
                    probing.probe_request(constrained=True, bounds=bounds, limit_field=limit_field)
                )
            except ClientError as error:
                if probing.was_cut_off(error):
                    return Capabilities(json_schema=True, schema_bounds=bounds)
                if error.kind not in probing.UNSUPPORTED_KINDS:
                    raise
                if limit_field == "max_tokens" and probing.wants_other_limit_field(error):
                    return await self._understood_schemas("max_completion_tokens")
            else:
                return Capabilities(probing.is_constrained(completion), schema_bounds=bounds)
        # It may be the schema, or anything else: without the schema the same request must pass.
        await self.complete(probing.probe_request(constrained=False, limit_field=limit_field))
        return Capabilities(json_schema=False)

    async def _exchange(self, method: str, url: yarl.URL, body: bytes | None) -> bytes:
        """Return the body of a 200 answer; whatever else happens is a ClientError."""
        session = self._session or self._open_session()
        headers = {"Connection": "close"} if time.monotonic() < self._leaving_until else None
        try:
            # No `async with`: `read` gives the connection back, or closes it if it fails.
            response = await session.request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxy,
            )
            content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise self._transport_error(exc, url) from exc
        answered = response.headers
        if rate_limits.is_announced(answered):
            self.on_rate_limits(rate_limits.read(answered, now=self._now()))
        if response.status != 200:
            raise self._refusal(response, content)
        if answered.get("Content-Type", "").startswith("text/event-stream"):
            raise ClientError(
                ErrorKind.BAD_REQUEST,
                "the server streams its answer; remove `stream` from extraBody",
                status_code=200,
            )
        return content

    def _open_session(self) -> aiohttp.ClientSession:
        endpoint = self._endpoint
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            # Completions are small and models slow: decompressing costs more than it saves.
            "Accept-Encoding": "identity",
            "User-Agent": f"kubesynth/{VERSION}",
        }
        if endpoint.api_key:
            # Secrets are often made from a file, and end in its line break.
            key = endpoint.api_key.strip()
            if endpoint.azure_api_version is None:
                headers["Authorization"] = f"Bearer {key}"
            else:
                headers["api-key"] = key
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=endpoint.max_connections,
                ttl_dns_cache=DNS_CACHE_SECONDS,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                ssl=self._tls or True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={**headers, **endpoint.headers},
            timeout=self._timeout,
        )
        return self._session

    def _refusal(self, response: aiohttp.ClientResponse, content: bytes) -> ClientError:
        text = self._without_key(content.decode("utf-8", "replace"))
        failure = classify(response.status, text, self._form.api)
        message = f"{failure.message} [{response.method} {response.url}]"
        if response.status in (404, 405) and (advice := self._endpoint.advice):
            message += f". {advice}"
        if 300 <= response.status < 400:
            message += f" It points to {response.headers.get('Location', 'nowhere')}."
        wait = None
        if failure.kind in BACKPRESSURE:
            headers = {name.lower(): value for name, value in response.headers.items()}
            wait = retry_after_seconds(response.status, headers, now=self._now())
        return ClientError(
            failure.kind,
            message,
            status_code=response.status,
            retry_after_seconds=wait,
            body=text,
        )

    def _without_key(self, text: str) -> str:
        """Return an answer without the API key, should the server have echoed it."""
        key = (self._endpoint.api_key or "").strip()
        return text.replace(key, "[apiKey]") if key else text

    def _transport_error(self, exc: Exception, url: yarl.URL) -> ClientError:
        kind, what = _describe_transport_error(exc, self._endpoint)
        # A proxy's URL may hold its password, and exceptions hold the URL.
        return ClientError(kind, f"{_CREDENTIALS.sub('//', what)} [{url}]")


def _describe_transport_error(exc: Exception, endpoint: OpenAIEndpoint) -> tuple[ErrorKind, str]:
    """Return the kind and a sentence for what aiohttp, or the socket below it, raised."""
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(exc.certificate_error, "verify_message", "") or str(exc)
            trusted = "caBundle" if endpoint.ca_bundle_path else "the system's authorities"
            return ErrorKind.AUTHENTICATION, (
                f"the server's certificate is not trusted by {trusted}: {reason}; "
                "set caBundle to the certificate authority (PEM) that signed it"
            )
        case aiohttp.ClientConnectorSSLError():
            return ErrorKind.CONNECTION, f"the TLS handshake failed: {exc}"
        case aiohttp.ClientConnectorError():
            return ErrorKind.CONNECTION, _describe_failed_connection(exc)
        case aiohttp.ConnectionTimeoutError():
            seconds = endpoint.connect_timeout_seconds
            return ErrorKind.CONNECTION, f"no connection within {seconds:g} s"
        case TimeoutError():
            seconds = endpoint.request_timeout_seconds
            return ErrorKind.TIMEOUT, (
                f"no complete answer within {seconds:g} s (requestTimeoutSeconds)"
            )
        case aiohttp.ClientPayloadError():
            return ErrorKind.CONNECTION, f"the answer broke off: {exc}"
        case aiohttp.ClientResponseError():
            return _describe_bad_answer(exc)
        case aiohttp.InvalidURL():
            return ErrorKind.MODEL_NOT_FOUND, "the url is no valid URL"
        case ValueError() if _is_unsendable(endpoint):
            return ErrorKind.BAD_REQUEST, f"the request cannot be sent: {exc}"
        case _:
            return ErrorKind.CONNECTION, f"the connection failed: {exc or type(exc).__name__}"


def _describe_bad_answer(exc: aiohttp.ClientResponseError) -> tuple[ErrorKind, str]:
    if not isinstance(exc, aiohttp.ClientHttpProxyError):
        return ErrorKind.MALFORMED_RESPONSE, f"the answer is no HTTP: {exc}"
    proxy = exc.request_info.real_url
    wants_a_user = exc.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    return (
        ErrorKind.AUTHENTICATION if wants_a_user else ErrorKind.CONNECTION,
        f"the proxy {proxy.host}:{proxy.port} answers {exc.status} {exc.message}",
    )


def _is_unsendable(endpoint: OpenAIEndpoint) -> bool:
    """Tell whether the API key or a header has a line break in it, which waiting does not mend."""
    texts = (endpoint.api_key or "").strip(), *endpoint.headers, *endpoint.headers.values()
    return any(character in text for text in texts for character in "\r\n\0")


def _describe_failed_connection(exc: aiohttp.ClientConnectorError) -> str:
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return f"the host {exc.host} is not known: {exc.os_error}"
    if exc.os_error.errno == errno.ECONNREFUSED:
        return "connection refused: nothing listens there, or not yet"
    return f"the connection failed: {exc}"


def tls_context(endpoint: OpenAIEndpoint) -> ssl.SSLContext | None:
    """Return a context that trusts the endpoint's own CA bundle, None for the system's."""
    if endpoint.ca_bundle_path is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(endpoint.ca_bundle_path))
    except OSError as exc:  # ssl.SSLError among them
        raise ClientError(
            ErrorKind.AUTHENTICATION,
            f"caBundle {endpoint.ca_bundle_path} holds no certificate authority in PEM: {exc}",
        ) from exc


def _proxy_for(url: yarl.URL) -> str | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for `url`, read once.

    Never one for this machine itself: the embedded model listens there.
    """
    host = url.host or ""
    return None if host in ("localhost", "127.0.0.1", "::1") else proxy_for(url.scheme, host)
