"""A server that speaks the OpenAI chat completions protocol and answers without a model.

It stands in for a hosted API, whose 429s, outages and odd answers cannot be had in a test. Its
reply is a pure function of the request body, so two runs that ask the same get the same; faults
are drawn from the body and the number of the attempt, so they too come again in the same places.

    python -m kubesynth_testing.fake_llm --host 0.0.0.0 --port 8000

A pod can run it from a ConfigMap of `pod_files()`, mounted as a folder `kubesynth_testing` in its
working directory; the image needs Python and aiohttp.

    POST /v1/chat/completions   GET /v1/models   GET /health
    POST /openai/deployments/fake-model/chat/completions?api-version=...    as Azure has it
    GET  /stats                 what was asked and answered; ?hashes=1 adds every request's hash
    POST /reset                 forget the statistics, keep the faults
    GET, POST /faults           the fields of `Faults` as JSON; what is left out is off
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import math
import random
import ssl
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from kubesynth_testing import strict_schemas
from kubesynth_testing.fake_replies import body_hash, complete, count_tokens

MODEL = "fake-model"


@dataclasses.dataclass(frozen=True, slots=True)
class Faults:
    """What the server does wrong. Rates are shares of the requests, 0 to 1."""

    latency_seconds: float = 0.0  # the median, if latency_sigma is set
    latency_sigma: float = 0.0  # of a log-normal distribution
    requests_per_second: float | None = None  # more than this, over `burst`, is a 429
    burst: int = 1
    retry_after_seconds: float | None = None  # Retry-After of a 429; None: when a token is there
    error_rate: float = 0.0
    error_status: int = 503
    hang_rate: float = 0.0  # never answers
    half_closed_rate: float = 0.0  # half the body, then the connection closes
    garbage_rate: float = 0.0  # 200 with a body that is no JSON
    empty_choices_rate: float = 0.0
    null_content_rate: float = 0.0
    drip_rate: float = 0.0  # the body comes in pieces over drip_seconds
    drip_seconds: float = 5.0
    context_tokens: int | None = None  # a longer prompt is a 400
    faulty_attempts: int | None = None  # later requests with the same body succeed
    strict_mode: str = "OpenAI"  # which strict schemas pass; "Azure"; "None" knows no schemas
    model_list: bool = True  # False: /v1/models is a 404
    usage: bool = True  # False: answers carry none
    wrong_usage: bool = False  # answers carry one that makes no sense
    reasoning: str = ""  # put before every answer, as <think>...</think>
    max_choices: int | None = None  # fewer than n
    api_key: str = ""  # wanted as bearer token, at a deployment as api-key
    redirect_to: str = ""  # every request is answered 307


class _RateLimiter:
    """A token bucket that refuses instead of waiting."""

    def __init__(self, rate_per_second: float, burst: int) -> None:
        self._rate = rate_per_second
        self._burst = burst
        self._tokens = float(burst)
        self._filled_at = time.monotonic()

    def seconds_until_token(self) -> float:
        """Take a token and return 0, or return how long it takes until there is one."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class _Statistics:
    def __init__(self) -> None:
        self.received: Counter[str] = Counter()  # by hash of the body
        self.answered: Counter[str] = Counter()  # with 200 and a whole completion
        self.statuses: Counter[str] = Counter()
        self.in_flight = 0
        self.in_flight_peak = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.seconds: Counter[int] = Counter()  # requests by the second in which they came

    def to_json(self, *, hashes: bool) -> dict[str, Any]:
        view: dict[str, Any] = {
            "requests": self.received.total(),
            "unique_requests": len(self.received),
            "answered": self.answered.total(),
            "duplicates": {key: count for key, count in self.received.items() if count > 1},
            "answered_again": {key: count for key, count in self.answered.items() if count > 1},
            "statuses": dict(self.statuses),
            "rate_limited": self.statuses["429"],
            "in_flight": self.in_flight,
            "in_flight_peak": self.in_flight_peak,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": {str(second): count for second, count in self.seconds.items()},
        }
        return view | ({"received": dict(self.received)} if hashes else {})


class FakeLlm:
    """The server. `async with FakeLlm() as server` serves on a free loopback port."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        model: str = MODEL,
        faults: Faults | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._host, self._port, self._tls = host, port, tls
        self.model = model
        self.statistics = _Statistics()
        self.set_faults(faults or Faults())
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._on_chat),
                web.post("/openai/deployments/{name}/chat/completions", self._on_azure_chat),
                web.get("/v1/models", self._on_models),
                web.get("/health", self._on_health),
                web.get("/stats", self._on_stats),
                web.post("/reset", self._on_reset),
                web.get("/faults", self._on_get_faults),
                web.post("/faults", self._on_set_faults),
            ]
        )
        # A client that gives up ends its request here too, so that in_flight tells the truth.
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"{self.origin}/v1"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; with port 0, on a free port."""
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._host, self._port, ssl_context=self._tls, backlog=4096
        )
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close everything, requests under way included."""
        await self._runner.cleanup()

    def set_faults(self, faults: Faults) -> None:
        """Replace all faults."""
        self.faults = faults
        rate = faults.requests_per_second
        self._limiter = _RateLimiter(rate, faults.burst) if rate else None

    async def _on_health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _on_models(self, request: web.Request) -> web.Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        if not self.faults.model_list:
            return _error(404, "Not Found", "not_found")
        entry = {"id": self.model, "object": "model", "created": 0, "owned_by": "kubesynth"}
        return web.json_response({"object": "list", "data": [entry]})

    async def _on_stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.statistics.to_json(hashes="hashes" in request.query))

    async def _on_reset(self, request: web.Request) -> web.Response:
        in_flight = self.statistics.in_flight
        self.statistics = _Statistics()
        self.statistics.in_flight = self.statistics.in_flight_peak = in_flight
        return web.json_response({})

    async def _on_get_faults(self, request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(self.faults))

    async def _on_set_faults(self, request: web.Request) -> web.Response:
        try:
            self.set_faults(Faults(**await request.json()))
        except (TypeError, ValueError) as exc:
            return _error(400, str(exc), "invalid_request_error")
        return await self._on_get_faults(request)

    async def _on_azure_chat(self, request: web.Request) -> web.StreamResponse:
        if "api-version" not in request.query or request.match_info["name"] != self.model:
            return _error(404, "Resource not found", "", "404")
        return await self._on_chat(request)

    async def _on_chat(self, request: web.Request) -> web.StreamResponse:
        statistics = self.statistics
        statistics.in_flight += 1
        statistics.in_flight_peak = max(statistics.in_flight_peak, statistics.in_flight)
        statistics.seconds[int(time.monotonic())] += 1
        try:
            response = await self._answer(request, await request.read())
        finally:
            # A reset in between has carried the count over.
            self.statistics.in_flight -= 1
        self.statistics.statuses[str(response.status)] += 1
        return response

    async def _answer(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        try:
            body = json.loads(raw)
            prompt = " ".join(message["content"] for message in body["messages"])
        except (ValueError, KeyError, TypeError) as exc:
            return _error(400, f"no chat completion request: {exc}", "invalid_request_error")
        key = body_hash(body)
        attempt = self.statistics.received[key]
        self.statistics.received[key] += 1
        if (response := self._bad_request(body, count_tokens(prompt))) is not None:
            return response
        if self._limiter and (wait := self._limiter.seconds_until_token()) > 0:
            return self._rate_limited(wait)
        faults = self.faults
        draw = random.Random(f"{key}/{attempt}")
        spread = math.exp(draw.gauss(0, faults.latency_sigma)) if faults.latency_sigma else 1.0
        if faults.latency_seconds:
            await asyncio.sleep(faults.latency_seconds * spread)
        fault = None
        if faults.faulty_attempts is None or attempt < faults.faulty_attempts:
            fault = _draw_fault(faults, draw)
        return await self._deliver(
            request, key, complete(body, faults.reasoning, faults.max_choices), fault
        )

    def _refuse(self, request: web.Request) -> web.Response | None:
        """Return what every path answers to a stranger, or where everything has moved."""
        faults = self.faults
        if faults.redirect_to:
            return web.Response(status=307, headers={"Location": faults.redirect_to})
        is_azure = request.path.startswith("/openai/")
        key = request.headers.get("api-key" if is_azure else "Authorization", "")
        if faults.api_key and key.removeprefix("Bearer ") != faults.api_key:
            return _error(401, "Incorrect API key provided.", "invalid_request_error")
        return None

    def _bad_request(self, body: dict[str, Any], prompt_tokens: int) -> web.Response | None:
        if body.get("model") != self.model:
            message = f"The model `{body.get('model')}` does not exist."
            return _error(404, message, "invalid_request_error", "model_not_found")
        if problem := strict_schemas.refusal(body, self.faults.strict_mode):
            return _error(400, problem, "invalid_request_error")
        limit = self.faults.context_tokens
        if limit is not None and prompt_tokens > limit:
            message = (
                f"This model's maximum context length is {limit} tokens. However, your messages "
                f"resulted in {prompt_tokens} tokens. Please reduce the length of the messages."
            )
            return _error(400, message, "invalid_request_error", "context_length_exceeded")
        return None

    def _rate_limited(self, wait_seconds: float) -> web.Response:
        told = self.faults.retry_after_seconds
        response = _error(429, "Rate limit reached.", "requests", "rate_limit_exceeded")
        response.headers["Retry-After"] = f"{wait_seconds if told is None else told:.3f}"
        return response

    async def _deliver(
        self, request: web.Request, key: str, reply: dict[str, Any], fault: str | None
    ) -> web.StreamResponse:
        if fault in (None, "drip", "empty_choices", "null_content"):
            self.statistics.prompt_tokens += reply["usage"]["prompt_tokens"]
            self.statistics.completion_tokens += reply["usage"]["completion_tokens"]
        match fault:
            case "error":
                return _error(self.faults.error_status, "The server had an error.", "server_error")
            case "hang":
                await asyncio.sleep(86400)
            case "garbage":
                return web.Response(text='{"choices": [{"mess', content_type="application/json")
            case "half_closed":
                return await _send_pieces(request, reply, seconds=0, share=0.5)
            case "empty_choices" | "null_content":
                reply["choices"][0]["message"]["content"] = None
                reply["choices"] = reply["choices"][: fault == "null_content"]
                return web.json_response(reply)
        self.statistics.answered[key] += 1
        if not self.faults.usage:
            del reply["usage"]
        elif self.faults.wrong_usage:
            reply["usage"] = {"prompt_tokens": "many", "completion_tokens": -1.5}
        if fault == "drip":
            return await _send_pieces(request, reply, seconds=self.faults.drip_seconds, share=1)
        return web.json_response(reply)


def pod_files() -> dict[str, str]:
    """Return the files that a pod needs to run this server, name to text."""
    folder = Path(__file__).parent
    names = ("__init__.py", "fake_llm.py", "fake_replies.py", "strict_schemas.py")
    return {name: (folder / name).read_text() for name in names}


def _draw_fault(faults: Faults, draw: random.Random) -> str | None:
    """Draw at most one fault; the rates add up."""
    point = draw.random()
    for name in (
        "error",
        "hang",
        "half_closed",
        "garbage",
        "empty_choices",
        "null_content",
        "drip",
    ):
        point -= getattr(faults, f"{name}_rate")
        if point < 0:
            return name
    return None


async def _send_pieces(
    request: web.Request, reply: dict[str, Any], *, seconds: float, share: float
) -> web.StreamResponse:
    """Send the first `share` of a body over `seconds`, then close unless that was all."""
    content = json.dumps(reply).encode()
    response = web.StreamResponse()
    response.content_type = "application/json"
    response.content_length = len(content)
    await response.prepare(request)
    pieces = 10
    size = math.ceil(len(content) * share / pieces)
    for piece in range(pieces):
        await response.write(content[piece * size : (piece + 1) * size])
        await asyncio.sleep(seconds / pieces)
    if share < 1 and request.transport is not None:
        request.transport.close()
    return response


def _error(status: int, message: str, type_: str, code: str | None = None) -> web.Response:
    body = {"error": {"message": message, "type": type_, "param": None, "code": code}}
    return web.json_response(body, status=status)


async def _serve(arguments: argparse.Namespace) -> None:
    faults = Faults(**json.loads(arguments.faults))
    server = FakeLlm(host=arguments.host, port=arguments.port, model=arguments.model, faults=faults)
    async with server:
        print(f"serving {server.model} at {server.url}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--faults", default="{}", help="the first faults, as JSON")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
