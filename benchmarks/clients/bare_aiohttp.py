"""The floor: aiohttp and msgspec on uvloop, a fixed number of workers, and nothing else.

No retries, no records, no journal, nothing written: what an engine in Python cannot be cheaper than
without another HTTP client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aiohttp
import msgspec
import uvloop

from benchmarks import workload
from benchmarks.clients import protocol


class _Message(msgspec.Struct):
    content: str


class _Choice(msgspec.Struct):
    message: _Message


class _Answer(msgspec.Struct):
    choices: list[_Choice]


_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


async def _work(
    session: aiohttp.ClientSession, url: str, model: str, max_tokens: int, texts: Iterator[str]
) -> int:
    count = 0
    for text in texts:
        message = {"role": "user", "content": workload.PROMPT + text}
        body = _encode({"model": model, "messages": [message], "max_tokens": max_tokens})
        async with session.post(url, data=body) as response:
            content = await response.read()
        count += bool(_decode(content).choices[0].message.content)
    return count


async def _main() -> None:
    arguments = protocol.parse()
    protocol.ready()
    texts = protocol.texts(arguments.input, arguments.rows)
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=arguments.concurrency)
    url = f"{arguments.url}/chat/completions"
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        workers = [
            _work(session, url, arguments.model, arguments.max_tokens, texts)
            for _ in range(arguments.concurrency)
        ]
        rows = sum(await asyncio.gather(*workers))
    protocol.done(rows)


if __name__ == "__main__":
    uvloop.run(_main())
