"""Ports for servers that are started later, or again and again."""

from __future__ import annotations

import contextlib
import random
import socket

# Below those that Linux gives outgoing connections (net.ipv4.ip_local_port_range): what is free
# now stays free while a server is down, unless somebody draws the same number.
_FIRST, _LAST = 15_000, 32_000
# Several processes draw; tests that seed `random` must not make them draw alike.
_DRAW = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Return so many different ports that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = _DRAW.randint(_FIRST, _LAST)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            if port not in found:
                found.append(port)
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    return free_ports(1)[0]
