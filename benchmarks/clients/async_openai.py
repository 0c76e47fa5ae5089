"""The official SDK with a fixed number of workers, as most scripts use it.

A row whose retries are used up is lost, as it is in such scripts.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator

import openai
import uvloop

from benchmarks import workload
from benchmarks.clients import protocol


async def _work(client: openai.AsyncOpenAI, model: str, texts: Iterator[str]) -> int:
    count = 0
    for text in texts:
        try:
            completion = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": workload.PROMPT + text}],
                max_tokens=workload.MAX_TOKENS,
            )
        except openai.APIStatusError:
            continue
        count += bool(completion.choices[0].message.content)
    return count


def _client(arguments: argparse.Namespace) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=arguments.url,
        api_key="none",
        http_client=openai.DefaultAioHttpClient() if arguments.transport == "aiohttp" else None,
    )


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=("stock", "aiohttp"), required=True)
    arguments = protocol.parse(parser)
    client = _client(arguments)
    protocol.ready()
    texts = protocol.texts(arguments.input, arguments.rows)
    async with client:
        workers = [_work(client, arguments.model, texts) for _ in range(arguments.concurrency)]
        rows = sum(await asyncio.gather(*workers))
    protocol.done(rows)


if __name__ == "__main__":
    uvloop.run(_main())
