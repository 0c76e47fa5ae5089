"""What runners have journalled, matched with what the model's server was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import xxhash

from kubesynth_runner.io.journal import CallFrame
from kubesynth_runner.io.segments import read_frames

_decode = msgspec.msgpack.Decoder(CallFrame).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def journalled_calls(files: Mapping[str, bytes]) -> set[bytes]:
    """Return the request hashes of all calls in the journals among the files of an output."""
    return {
        _decode(payload).request_hash
        for path, content in files.items()
        if "/journal/" in path
        for _, payload in read_frames(content)
    }


def request_hash(body: Mapping[str, Any]) -> bytes:
    """Return the hash under which the runner journals the request with this body."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    own = ("model", "messages", "response_format")
    sampling = {name: value for name, value in body.items() if name not in own}
    content: tuple[Any, ...] = (body["model"], body["messages"], sampling, schema, {})
    return xxhash.xxh3_128_digest(_encode(content))
