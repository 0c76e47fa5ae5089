"""The floor on Triton: NVIDIA's tritonclient.grpc.aio, a fixed number of workers, nothing else.

tritonclient brings NumPy, which the engine does without, so it runs in the environment of the
test's Triton server: this program starts itself again with that interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.clients import protocol


async def _work(client: Any, arguments: argparse.Namespace, texts: Iterator[str]) -> int:
    import numpy as np
    from tritonclient.grpc import InferInput, InferRequestedOutput

    limit = InferInput("max_length", [1, 1], "INT64")
    limit.set_data_from_numpy(np.array([[arguments.max_tokens]], dtype=np.int64))
    outputs = [InferRequestedOutput("sentences")]
    count = 0
    for text in texts:
        prompt = InferInput("prompts", [1, 1], "BYTES")
        content = (arguments.prompt + text).encode()
        prompt.set_data_from_numpy(np.array([[content]], dtype=object))
        answer = await client.infer(arguments.triton_model, [prompt, limit], outputs=outputs)
        count += bool(answer.as_numpy("sentences")[0][0].decode())
    return count


async def _main(arguments: argparse.Namespace) -> int:
    from tritonclient.grpc.aio import InferenceServerClient

    texts = protocol.texts(arguments.input, arguments.rows)
    async with InferenceServerClient(arguments.url.removeprefix("grpc://")) as client:
        workers = (_work(client, arguments, texts) for _ in range(arguments.concurrency))
        return sum(await asyncio.gather(*workers))


def main() -> None:
    """Ask about every document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True, help="an interpreter that has tritonclient")
    parser.add_argument("--triton-model", required=True)
    parser.add_argument("--prompt", required=True, help="what stands before each document")
    arguments = protocol.parse(parser)
    if importlib.util.find_spec("tritonclient") is None:
        module = "benchmarks.clients.bare_tritonclient"
        os.execv(arguments.python, [arguments.python, "-m", module, *sys.argv[1:]])
    import tritonclient.grpc.aio  # noqa: F401 (before the clock starts)

    protocol.ready()
    protocol.done(asyncio.run(_main(arguments)))


if __name__ == "__main__":
    main()
