"""The models of a run: connections to all of them, an embedded server if one is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_api.runner_contract import ModelShare
from kubesynth_api.shares import whole_share
from kubesynth_api.v1alpha1.models import EmbeddedModel, ExternalModel, ModelLimits, ModelSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import clients, errors
from kubesynth_runner.embedded import weights
from kubesynth_runner.embedded.process import EmbeddedOptions, EmbeddedServer
from kubesynth_runner.engine.buckets import Buckets
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.engine.gradient import LatencyGradient
from kubesynth_runner.engine.waiting import Waiting
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io import layout
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.llm.absence import Absence
from kubesynth_runner.llm.base import ChatClient
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.openai import OpenAIChatClient

FIRST_POLL_SECONDS = 0.2
LAST_POLL_SECONDS = 5.0
# A server that takes so long over the first question, and has not failed either, is spoken of.
NOTICE_SECONDS = 5.0
# Of connections: the gate limits requests, and by more or less while the run goes on.
ANY_NUMBER = 0


class StoredCapabilities(msgspec.Struct, frozen=True, rename="camel"):
    """Which requests a run sends to a server; see `Capabilities`."""

    json_schema: bool
    schema_bounds: bool = True
    schema_lengths: bool = False


_DECODER = msgspec.json.Decoder(StoredCapabilities)


class CapabilityStore:
    """What the run's servers understand, as its first pod found out. Blocking.

    All pods, and all restarts, must ask in the same way, or the journal would not fit.
    """

    def __init__(self, storage: Storage, run_id: str) -> None:
        self._storage = storage
        self._layout = layout.RunLayout(run_id)

    def load(self, role: str) -> StoredCapabilities | None:
        """Return what the server understands, or None if nobody knows yet."""
        try:
            data = self._storage.read(self._layout.capabilities(role))
        except FileNotFoundError:
            return None
        return _DECODER.decode(data)

    def save(self, role: str, found: StoredCapabilities) -> StoredCapabilities:
        """Store what was found out, unless somebody was faster; return what counts."""
        if self._storage.create(self._layout.capabilities(role), msgspec.json.encode(found)):
            return found
        return self.load(role) or found


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """What ends waiting for models early, and who is told that they are waited for."""

    stop: asyncio.Event
    waiting: Waiting


class ModelPool:
    """Connections by role. `wait_failed` returns when an embedded server has died."""

    def __init__(
        self, connections: Mapping[str, ModelConnection], servers: list[EmbeddedServer]
    ) -> None:
        self.connections = connections
        self._servers = servers

    async def wait_failed(self) -> errors.RunnerError:
        """Wait for a server of ours to die. Never returns while all is well."""
        if not self._servers:
            await asyncio.Event().wait()
        return await self._servers[0].wait_failed()


@contextlib.asynccontextmanager
async def connect(
    spec: SyntheticDataJobSpec,
    roles: frozenset[str],
    environment: RunEnvironment,
    store: CapabilityStore,
    patience: Patience,
    shares: Mapping[str, ModelShare] | None = None,
) -> AsyncIterator[ModelPool]:
    """Connect to the models in `roles`, waiting for each to answer; close all at the end.

    `shares` is what this process may use of the models' limits; without it, all of them.

    Raises:
        ConfigurationError: a key is wrong, a model is not served, the extra is not installed.
        RetryLaterError: a model did not answer within deadlines.modelReadySeconds.
        StoppedError: `patience.stop` was set while waiting.
    """
    async with contextlib.AsyncExitStack() as stack:
        connections, servers = {}, []
        given = shares or whole_share(spec).models
        seconds = float(spec.deadlines.model_ready_seconds)
        for place, model in enumerate(spec.models):
            if model.name not in roles:
                continue
            share = given[model.name].concurrency
            client: ChatClient
            if model.external is not None:
                name = model.external.model
                client = _client(spec, model, model.external, environment)
            elif model.embedded is not None:
                # More would only queue in the server, on the time of their own timeouts.
                share = min(share, model.embedded.slots)
                server = await stack.enter_async_context(_embedded_server(model.embedded))
                servers.append(server)
                name = server.model
                client = clients.connect_embedded(
                    server.url, name, model.request_timeout_seconds, ANY_NUMBER
                )
            else:
                raise _not_available(model.name)
            gate = _gate(model.limits, given[model.name], share, client)
            stack.push_async_callback(client.close)
            understood = await _understood(store, _Wait(model, client, seconds, patience))
            connections[model.name] = ModelConnection(
                model.name,
                name,
                client,
                gate,
                understood.json_schema,
                model.max_attempts,
                seconds,
                (model.external and model.external.extra_body) or {},
                place,
                bool(spec.budget and spec.budget.prices),
                model.embedded.slots if model.embedded else None,
                clients.connect_batches(spec, client, stack),
                understood.schema_bounds,
                understood.schema_lengths,
            )
        yield ModelPool(connections, servers)


async def _understood(store: CapabilityStore, wait: _Wait) -> StoredCapabilities:
    """Return what the server understands, asked once in a run."""
    model = wait.model
    known = await asyncio.to_thread(store.load, model.name)
    if known is None:
        found = await wait.probe()
        if model.embedded is not None:
            # The grammars of llama.cpp have all escapes, and a small model needs to be held.
            found = msgspec.structs.replace(found, schema_lengths=True)
        known = await asyncio.to_thread(store.save, model.name, found)
    return known


def _client(
    spec: SyntheticDataJobSpec,
    model: ModelSpec,
    external: ExternalModel,
    environment: RunEnvironment,
) -> ChatClient:
    try:
        return clients.connect(spec, model, external, environment, ANY_NUMBER)
    except ClientError as failure:  # before anything was sent
        raise errors.ConfigurationError(
            Reason.MODEL_STARTUP_FAILED, f"models[{model.name}].external: {failure}"
        ) from failure


def _not_available(role: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(
        Reason.NOT_IMPLEMENTED, f"models[{role}]: only external and embedded are available"
    )


def _embedded_server(embedded: EmbeddedModel) -> EmbeddedServer:
    return EmbeddedServer(
        weights.locate(weights.model_folder()),
        EmbeddedOptions(embedded.slots, embedded.context_tokens),
    )


def _buckets(share: ModelShare) -> Buckets | None:
    """Return the limits per minute of this process; None if there are none."""
    requests, tokens = share.requests_per_minute, share.tokens_per_minute
    return Buckets(requests, tokens) if requests or tokens else None


def _gate(limits: ModelLimits, share: ModelShare, concurrency: int, client: ChatClient) -> Gate:
    """Return the gate of a model, with this process's share of its limits."""
    gate = Gate(concurrency, _buckets(share))
    if limits.adaptive == "Latency":
        gate.admission.gradient = LatencyGradient()
    if isinstance(client, OpenAIChatClient):
        client.on_rate_limits = gate.on_rate_limits
    return gate


class _Wait:
    """Waiting for one model to answer."""

    def __init__(
        self, model: ModelSpec, client: ChatClient, deadline_seconds: float, patience: Patience
    ) -> None:
        self.model = model
        self._role = model.name
        self._client = client
        self._deadline_seconds = deadline_seconds
        self._patience = patience
        # One of our own is on its way, and refuses connections until it is there.
        self._quiet_seconds = NOTICE_SECONDS if model.embedded else 0.0
        self._absence = Absence()
        where = f" [{model.external.url}]" if model.external else ""
        self._last_failure = ClientError(ErrorKind.TIMEOUT, f"no answer yet{where}")

    async def probe(self) -> StoredCapabilities:
        """Return what the server understands.

        Raises:
            ConfigurationError: waiting is hopeless.
            RetryLaterError: there was no answer in time.
            StoppedError: asked to stop.
        """
        work = asyncio.create_task(self._poll())
        stopped = asyncio.create_task(self._patience.stop.wait())
        notice = asyncio.create_task(self._give_notice())
        try:
            await asyncio.wait(
                {work, stopped},
                timeout=self._deadline_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                return work.result()
            if stopped.done():
                raise errors.StoppedError
            raise errors.RetryLaterError(
                Reason.MODEL_STARTUP_FAILED,
                f"models[{self._role}] did not answer within deadlines.modelReadySeconds "
                f"({self._deadline_seconds:.0f} s): {self._last_failure}",
            )
        finally:
            work.cancel()
            stopped.cancel()
            notice.cancel()
            await asyncio.gather(work, stopped, notice, return_exceptions=True)

    async def _poll(self) -> StoredCapabilities:
        started = asyncio.get_running_loop().time()
        pause = FIRST_POLL_SECONDS
        while True:
            try:
                found = await self._client.probe()
                self._patience.waiting.answers(self._role)
                return StoredCapabilities(found.json_schema, found.schema_bounds)
            except ClientError as failure:
                self._last_failure = failure
                now = asyncio.get_running_loop().time()
                self._give_up_if_hopeless(failure, now)
                if now - started >= self._quiet_seconds:
                    self._patience.waiting.waits(self._role, failure)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, LAST_POLL_SECONDS)

    async def _give_notice(self) -> None:
        await asyncio.sleep(NOTICE_SECONDS)
        self._patience.waiting.waits(self._role, self._last_failure)

    def _give_up_if_hopeless(self, failure: ClientError, now: float) -> None:
        absent = self._absence.is_final(failure, now)
        if absent or failure.kind in (ErrorKind.AUTHENTICATION, ErrorKind.BAD_REQUEST):
            raise errors.ConfigurationError(
                Reason.MODEL_STARTUP_FAILED, f"models[{self._role}]: {failure}"
            ) from failure
