"""The messages of Triton's gRPC protocol that are used here, and a channel to send them on.

The protocol is the Open Inference Protocol (KServe v2, `inference.GRPCInferenceService`) with
Triton's extensions for model configurations and streams. Only the fields that are read or written
are declared, by name and number; whatever else a server sends is skipped, as protobuf does.

Why not the package `tritonclient`: it needs NumPy, which pyarrow imports as soon as it is
installed. That costs every runner, whatever it speaks, 0.4 s of processor time at its start and
17 MB, and the image 50 MB. These messages need gRPC and protobuf alone.
Source: triton-inference-server/common, protobuf/grpc_service.proto and model_config.proto.
"""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from kubesynth_api.version import VERSION

SERVICE = "inference.GRPCInferenceService"
_PACKAGE = "inference"
# Requests go to every address that the name has, as a headless Service has one for each replica.
_ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
}
# name, number, type; a * marks a repeated field, a capital letter another message of this table.
# An enumeration is an int32 to the wire.
_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "ModelReadyRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelReadyResponse": (("ready", 1, "bool"),),
    "ModelMetadataRequest": (("name", 1, "string"), ("version", 2, "string")),
    "TensorMetadata": (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "*int64")),
    "ModelMetadataResponse": (
        ("name", 1, "string"),
        ("inputs", 4, "*TensorMetadata"),
        ("outputs", 5, "*TensorMetadata"),
    ),
    "ModelConfigRequest": (("name", 1, "string"), ("version", 2, "string")),
    "ModelInput": (
        ("name", 1, "string"),
        ("data_type", 2, "int32"),
        ("dims", 4, "*int64"),
        ("optional", 8, "bool"),
    ),
    "ModelOutput": (("name", 1, "string"), ("data_type", 2, "int32"), ("dims", 3, "*int64")),
    "ModelTransactionPolicy": (("decoupled", 1, "bool"),),
    "ModelDynamicBatching": (("preferred_batch_size", 1, "*int32"),),
    "ModelConfig": (
        ("name", 1, "string"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "*ModelInput"),
        ("output", 6, "*ModelOutput"),
        ("dynamic_batching", 11, "ModelDynamicBatching"),
        ("model_transaction_policy", 19, "ModelTransactionPolicy"),
    ),
    "ModelConfigResponse": (("config", 1, "ModelConfig"),),
    "InferInputTensor": (("name", 1, "string"), ("datatype", 2, "string"), ("shape", 3, "*int64")),
    "InferRequestedOutputTensor": (("name", 1, "string"),),
    "ModelInferRequest": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("id", 3, "string"),
        ("inputs", 5, "*InferInputTensor"),
        ("outputs", 6, "*InferRequestedOutputTensor"),
        ("raw_input_contents", 7, "*bytes"),
    ),
    "InferTensorContents": (("bytes_contents", 8, "*bytes"),),
    "InferOutputTensor": (
        ("name", 1, "string"),
        ("datatype", 2, "string"),
        ("shape", 3, "*int64"),
        ("contents", 5, "InferTensorContents"),
    ),
    "ModelInferResponse": (
        ("model_name", 1, "string"),
        ("model_version", 2, "string"),
        ("id", 3, "string"),
        ("outputs", 5, "*InferOutputTensor"),
        ("raw_output_contents", 6, "*bytes"),
    ),
    "ModelStreamInferResponse": (
        ("error_message", 1, "string"),
        ("infer_response", 2, "ModelInferResponse"),
    ),
    "RepositoryIndexRequest": (("repository_name", 1, "string"), ("ready", 2, "bool")),
    "ModelIndex": (("name", 1, "string"), ("version", 2, "string"), ("state", 3, "string")),
    "RepositoryIndexResponse": (("models", 1, "*ModelIndex"),),
}


def _build() -> dict[str, Any]:
    """Return a class for each message of the table."""
    file = descriptor_pb2.FileDescriptorProto(
        name="kubesynth/triton.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            field = message.field.add(name=field_name, number=number)
            base = kind.removeprefix("*")
            field.label = _Field.LABEL_REPEATED if kind != base else _Field.LABEL_OPTIONAL
            if base in _SCALARS:
                field.type = _SCALARS[base]
            else:
                field.type = _Field.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{base}"
    # A pool of our own: in the default one the names would clash with a tritonclient's.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _FIELDS
    }


MESSAGES = _build()
ModelInferRequest = MESSAGES["ModelInferRequest"]
_UNARY = ("ModelReady", "ModelMetadata", "ModelConfig", "RepositoryIndex", "ModelInfer")


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelOptions:
    """How to connect. `ca_pem` are the certificate authorities to trust; None is no TLS."""

    address: str
    ca_pem: bytes | None
    max_message_bytes: int
    keepalive_seconds: int
    use_proxy: bool


class Connection:
    """One HTTP/2 connection (a few, where the name resolves to many servers), and its calls."""

    def __init__(self, options: ChannelOptions) -> None:
        arguments = [
            ("grpc.max_send_message_length", options.max_message_bytes),
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.keepalive_time_ms", options.keepalive_seconds * 1000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.service_config", _ROUND_ROBIN),
            ("grpc.use_local_subchannel_pool", 1),
            # The engine waits; a channel that waits for a minute on its own would be idle then.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.enable_http_proxy", int(options.use_proxy)),
            ("grpc.enable_retries", 0),
            ("grpc.primary_user_agent", f"kubesynth/{VERSION}"),
        ]
        if options.ca_pem is None:
            self._channel = grpc.aio.insecure_channel(options.address, options=arguments)
        else:
            credentials = grpc.ssl_channel_credentials(root_certificates=options.ca_pem)
            self._channel = grpc.aio.secure_channel(options.address, credentials, options=arguments)
        self._methods = {method: self._unary(method) for method in _UNARY}
        self.stream_infer = self._channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=MESSAGES["ModelStreamInferResponse"].FromString,
        )

    def unary(self, method: str) -> Any:
        """Return the call of a method with one request and one response."""
        return self._methods[method]

    async def close(self) -> None:
        """Close it, with whatever is under way."""
        await self._channel.close()

    def _unary(self, method: str) -> Any:
        return self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=MESSAGES[f"{method}Request"].SerializeToString,
            response_deserializer=MESSAGES[f"{method}Response"].FromString,
        )


def system_authorities() -> bytes:
    """Return the certificate authorities that this system trusts, in PEM.

    gRPC would take a list of its own instead.
    """
    ders = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in ders).encode()


def read_authorities(path: Path) -> bytes:
    """Return the certificate authorities in a file.

    Raises:
        OSError: it cannot be read, or holds none in PEM (ssl.SSLError).
    """
    ssl.create_default_context(cafile=str(path))
    return path.read_bytes()
