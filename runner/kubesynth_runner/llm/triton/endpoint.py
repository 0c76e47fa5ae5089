"""Where a model on Triton is, and how it is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kubesynth_runner.llm.base import Message

DEFAULT_PORT = 8001
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

Render = Callable[[Sequence[Message]], str]


@dataclasses.dataclass(frozen=True, slots=True)
class TritonEndpoint:
    """One model on one server.

    `url` is grpc://HOST:PORT, grpcs://HOST:PORT or HOST:PORT. `ca_bundle_path` is a PEM file that
    replaces the system's certificate authorities. `request_timeout_seconds` is the deadline of a
    call. `contract` None is found out. `render` None lets the server apply its model's template.
    `sampling_fields` are the wire fields that requests are going to have, `extra_body` what they
    have for further inputs. `sampling` is what is asked with before them: a model may need it.
    """

    url: str
    model: str
    token: str | None = dataclasses.field(default=None, repr=False)
    ca_bundle_path: Path | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    request_timeout_seconds: float = 300.0
    model_version: str = ""
    contract: str | None = None
    render: Render | None = None
    sampling_fields: frozenset[str] = frozenset()
    sampling: Mapping[str, object] = dataclasses.field(default_factory=dict)
    extra_body: Mapping[str, object] = dataclasses.field(default_factory=dict)
    max_message_bytes: int = 64 * 1024 * 1024
    keepalive_seconds: int = 330
    connections: int = 1

    @property
    def where(self) -> str:
        """The endpoint as errors name it."""
        return f"{self.model} at {self.url}"

    @property
    def has_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("grpcs://")

    @property
    def address(self) -> str:
        """Host and port."""
        rest = self.url.rpartition("://")[2].rstrip("/")
        has_port = ":" in rest.rpartition("]")[2]
        return rest if has_port else f"{rest}:{DEFAULT_PORT}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine, where no proxy leads."""
        return self.address.rpartition(":")[0] in _LOOPBACK

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what goes along with every call. Names are lower case in gRPC."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.token and self.token.strip():
            # Secrets are often made from a file, and end in its line break.
            headers["authorization"] = f"Bearer {self.token.strip()}"
        return tuple(headers.items())
