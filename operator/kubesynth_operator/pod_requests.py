"""Requests to runner pods, whose answers are not to be trusted.

Whoever may label a pod can have it asked. So no redirect is followed, or the operator would send
requests to any address that it can reach; and no more is read than a runner ever sends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import aiohttp

# A report is a few hundred bytes; a pod that sends more is not a runner.
_REPORT_MAX_BYTES = 65536


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a pod has answered; `body` is cut off where it is longer than any report."""

    status: int
    body: bytes


async def ask(session: aiohttp.ClientSession, url: str) -> Answer:
    """GET a report.

    Raises:
        aiohttp.ClientError, TimeoutError, OSError: there was no whole answer.
    """
    async with session.get(url, allow_redirects=False) as response:
        return Answer(response.status, await _read(response))


async def tell(
    session: aiohttp.ClientSession, url: str, body: str, headers: Mapping[str, str]
) -> Answer:
    """POST something, and return the answer to it.

    Raises:
        aiohttp.ClientError, TimeoutError, OSError: there was no whole answer.
    """
    async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
        return Answer(response.status, await _read(response))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read to the end: a single read returns what has arrived, which may be a part."""
    found = b""
    while len(found) < _REPORT_MAX_BYTES:
        more = await response.content.read(_REPORT_MAX_BYTES - len(found))
        if not more:
            break
        found += more
    return found
