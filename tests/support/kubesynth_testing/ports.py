"""Ports for servers that are started later, or again and again."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

# Below those that Linux gives outgoing connections (net.ipv4.ip_local_port_range): what is free
# now stays free while a server is down, unless somebody draws the same number.
_FIRST, _LAST = 15_000, 32_000


def _numbers(worker: str, workers: int) -> Iterator[int]:
    """Yield a share of the ports, again and again.

    The processes of a test run have shares of their own, and no process draws a number twice while
    there are others: hundreds of servers are drawn for that do not listen yet, or not just now.
    """
    share = (_LAST - _FIRST) // workers
    first = _FIRST + share * (int(worker.removeprefix("gw")) % workers)
    # Another test run on this machine begins somewhere else. (Some tests seed `random` itself.)
    begin = random.SystemRandom().randrange(share)
    return (first + (begin + step) % share for step in itertools.count())


_DRAW = _numbers(
    os.environ.get("PYTEST_XDIST_WORKER", "gw0"),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)


def free_ports(count: int) -> list[int]:
    """Return so many different ports that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = next(_DRAW)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    return free_ports(1)[0]
