"""Copies images from the Docker daemon into containerd of the nodes.

`kind load` does it, too. But it leaves every layer on a node twice, as it came and unpacked, and
writes all of them to a file of the host before.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from kubesynth_testing.cluster.docker_client import Docker
from kubesynth_testing.cluster.shell import CommandError

_CHUNK_BYTES = 1 << 20
_CTR = ("ctr", "--namespace=k8s.io", "images")


def nodes_without(docker: Docker, image: str, nodes: Sequence[str]) -> list[str]:
    """Return the nodes that have no image of this name."""
    return [
        node
        for node in nodes
        if not docker.run("exec", node, *_CTR, "ls", "-q", f"name=={image}").strip()
    ]


def copy(docker: Docker, images: Sequence[str], nodes: Sequence[str]) -> None:
    """Copy images to nodes, layers that the images share once, all nodes at a time.

    Raises:
        CommandError: The daemon could not give them, or a node could not take them.
    """
    command = [str(docker.program), "save", *images]
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile())
        source = subprocess.Popen(
            command,
            env={**os.environ, **docker.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert source.stdout is not None
        said = [stack.enter_context(tempfile.TemporaryFile()) for _ in nodes]
        takers = [_Taker(docker, *each) for each in zip(nodes, said, strict=True)]
        try:
            while chunk := source.stdout.read(_CHUNK_BYTES):
                for taker in takers:
                    taker.write(chunk)
        finally:
            source.stdout.close()
            status = source.wait()
            for taker in takers:
                taker.finish()
        if status != 0:
            raise CommandError(command, status, _text(errors))
        for taker in takers:
            taker.check()


class _Taker:
    """A node that unpacks an archive while it comes in; what it says goes to a file."""

    def __init__(self, docker: Docker, node: str, output: IO[bytes]) -> None:
        importing = ("import", "--local", "--digests", "--discard-unpacked-layers", "-")
        self._command = [str(docker.program), "exec", "-i", node, *_CTR, *importing]
        self._output = output
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **docker.env},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        self._gone = False

    def write(self, chunk: bytes) -> None:
        assert self._process.stdin is not None
        try:
            if not self._gone:
                self._process.stdin.write(chunk)
        except BrokenPipeError:  # it says why, and with which status
            self._gone = True

    def finish(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            self._gone = True
        self._process.wait()

    def check(self) -> None:
        if self._process.returncode != 0:
            raise CommandError(self._command, self._process.returncode, _text(self._output))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
