"""A gRPC server that speaks Triton's protocol and has no model: it stands in for gateways.

Triton itself knows no tokens, and does not refuse on demand. This one sits on loopback in the
test's own process, with TLS if it is given a certificate. Its one model says what it was told.
"""

from __future__ import annotations

import asyncio
import dataclasses
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import grpc

from kubesynth_runner.llm.triton import wire

MODEL = "echo"


@dataclasses.dataclass(slots=True)
class Behaviour:
    """What the server does other than answer."""

    token: str = ""  # wanted as bearer token
    ready: bool = True
    tells_config: bool = True  # False: the configuration is nobody's business
    says_decoupled: bool = True  # False: it streams all the same
    code: grpc.StatusCode | None = None  # of every inference
    details: str = ""
    trailing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stream_error: str = ""  # told in words within a stream
    decoupled: bool = False
    latency_seconds: float = 0.0


class Gateway:
    """`async with Gateway() as server` serves on a free loopback port."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        credentials: grpc.ServerCredentials | None = None,
        port: int = 0,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self._credentials = credentials
        self._port = port
        self.calls: list[dict[str, str]] = []  # metadata of each inference
        self._server = grpc.aio.server()

    @property
    def port(self) -> int:
        """Port that it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """URL of the endpoint."""
        return f"grpc{'s' if self._credentials else ''}://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        unary = {
            "ModelReady": self._ready,
            "ModelMetadata": self._metadata,
            "ModelConfig": self._config,
            "ModelInfer": self._infer,
        }
        handlers: dict[str, Any] = {
            method: grpc.unary_unary_rpc_method_handler(
                function,
                request_deserializer=wire.MESSAGES[f"{method}Request"].FromString,
                response_serializer=wire.MESSAGES[f"{method}Response"].SerializeToString,
            )
            for method, function in unary.items()
        }
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=wire.ModelInferRequest.FromString,
            response_serializer=wire.MESSAGES["ModelStreamInferResponse"].SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(wire.SERVICE, handlers),)
        )
        address = f"127.0.0.1:{self._port}"
        if self._credentials is None:
            self._port = self._server.add_insecure_port(address)
        else:
            self._port = self._server.add_secure_port(address, self._credentials)
        await self._server.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._server.stop(0)

    async def _admit(self, context: Any) -> None:
        metadata = dict(context.invocation_metadata())
        self.calls.append(metadata)
        token = self.behaviour.token
        if token and metadata.get("authorization") != f"Bearer {token}":
            text = f"the token {metadata.get('authorization')} is not known"
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)

    async def _ready(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        return wire.MESSAGES["ModelReadyResponse"](ready=self.behaviour.ready)

    async def _metadata(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        answer = wire.MESSAGES["ModelMetadataResponse"](name=MODEL)
        answer.inputs.add(name="text_input", datatype="BYTES", shape=[1])
        answer.outputs.add(name="text_output", datatype="BYTES", shape=[1])
        return answer

    async def _config(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        if not self.behaviour.tells_config:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted")
        answer = wire.MESSAGES["ModelConfigResponse"]()
        answer.config.name = MODEL
        answer.config.input.add(name="text_input", data_type=13, dims=[1])
        answer.config.output.add(name="text_output", data_type=13, dims=[1])
        answer.config.model_transaction_policy.decoupled = (
            self.behaviour.decoupled and self.behaviour.says_decoupled
        )
        return answer

    async def _infer(self, request: Any, context: Any) -> Any:
        await self._admit(context)
        behaviour = self.behaviour
        if behaviour.decoupled:
            text = "ModelInfer RPC doesn't support models with decoupled transaction policy"
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, text)
        await self._refuse(context)
        await asyncio.sleep(behaviour.latency_seconds)
        return _answer(request, _reply(request))

    async def _stream(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            await self._admit(context)
            await self._refuse(context)
            for word in _reply(request).split():
                response = wire.MESSAGES["ModelStreamInferResponse"]()
                response.infer_response.CopyFrom(_answer(request, f"{word} "))
                yield response
            if self.behaviour.stream_error:
                yield wire.MESSAGES["ModelStreamInferResponse"](
                    error_message=self.behaviour.stream_error
                )

    async def _refuse(self, context: Any) -> None:
        behaviour = self.behaviour
        if behaviour.code is not None:
            trailing = tuple(behaviour.trailing.items())
            await context.abort(behaviour.code, behaviour.details, trailing)


def _reply(request: Any) -> str:
    content: bytes = request.raw_input_contents[0]
    return f"You said: {content[4:].decode()}"


def _answer(request: Any, text: str) -> Any:
    content = text.encode()
    answer = wire.MESSAGES["ModelInferResponse"](model_name=request.model_name)
    answer.outputs.add(name="text_output", datatype="BYTES", shape=[1])
    answer.raw_output_contents.append(struct.pack("<I", len(content)) + content)
    return answer
