"""The command line `kubesynth`, as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path


async def start(*arguments: str | Path) -> asyncio.subprocess.Process:
    """Start it; both of its outputs are pipes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubesynth_runner.cli"),
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def kubesynth(*arguments: str | Path) -> tuple[int, str, str]:
    """Run it to its end and return its exit code and what it wrote to stdout and stderr."""
    process = await start(*arguments)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
