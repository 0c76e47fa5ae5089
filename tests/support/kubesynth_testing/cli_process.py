"""The command line `kubesynth`, as a process of its own that no test leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start it, with pipes for both of its outputs, and kill it if it still runs at the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubesynth_runner.cli"),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def read_until(stream: asyncio.StreamReader | None, text: str) -> str:
    """Return the first line of an output that holds `text`; fail with all of it if it ends before.

    A loaded machine may take long: the test's own time limit is the only one.
    """
    assert stream is not None
    seen: list[str] = []
    async for line in stream:
        seen.append(line.decode())
        if text in seen[-1]:
            return seen[-1]
    raise AssertionError(f"{text!r} was not said, but: {''.join(seen)}")


async def kubesynth(*arguments: str | Path) -> tuple[int, str, str]:
    """Run it to its end and return its exit code and what it wrote to stdout and stderr."""
    async with running(*arguments) as process:
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
