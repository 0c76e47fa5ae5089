"""The embedded model as an OpenAI-compatible server: `python -m kubesynth_runner.embedded.server`.

llama.cpp's own HTTP server, from the prebuilt wheel `xllamacpp`: slots, continuous batching, JSON
schema as a grammar, `/health`, `/metrics`. It runs in a process of its own, because it is native
code with its own threads and because a crash in it must not take the pipeline along.

Nothing is imported here that a start does not need: the model is ready in under a second.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The package that has llama.cpp.
PACKAGE = "xllamacpp"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# llama.cpp's levels: 1 errors, 2 warnings, 3 one line and more per request.
_LOG_WARNINGS = 2
# Ends that nothing but a person's change can prevent.
EXIT_PACKAGE_MISSING = 3
EXIT_NOT_LOADED = 4


@dataclasses.dataclass(frozen=True, slots=True)
class ServerOptions:
    """How to serve a gguf. Port 0 means a free one; `context_tokens` is per slot."""

    gguf: Path
    model: str
    host: str = "127.0.0.1"
    port: int = 0
    slots: int = 4
    context_tokens: int = 2048
    threads: int = 1
    parent_pid: int | None = None
    address_fd: int | None = None

    def to_arguments(self) -> list[str]:
        """Return the command line that `parse` turns into these options."""
        fields = dataclasses.asdict(self)
        return [
            f"--{name.replace('_', '-')}={value}"
            for name, value in fields.items()
            if value is not None
        ]


def parse(arguments: Sequence[str]) -> ServerOptions:
    """Read a command line."""
    parser = argparse.ArgumentParser(prog="kubesynth_runner.embedded.server", description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context-tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parent-pid", type=int)
    parser.add_argument("--address-fd", type=int)
    return ServerOptions(**vars(parser.parse_args(arguments)))


def serve(options: ServerOptions) -> int:
    """Serve until SIGTERM, SIGINT or the parent's end, and end the process with 0.

    Returns:
        Another exit code, if it cannot serve.
    """
    if options.parent_pid is not None and not _die_with(options.parent_pid):
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # OpenMP reads this when its library is loaded. Its default is to spin while waiting, which
    # brings generation to a crawl as soon as another process wants the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp
    except ImportError as exc:
        print(f"the embedded model needs kubesynth's extra `local` ({exc})", file=sys.stderr)
        return EXIT_PACKAGE_MISSING
    try:
        server = xllamacpp.Server(_parameters(xllamacpp.CommonParams(), options))
    except RuntimeError as exc:
        print(f"{options.gguf} cannot be served: {exc}", file=sys.stderr)
        return EXIT_NOT_LOADED
    address = server.listening_address
    print(f"serving {options.model} at {address}/v1", flush=True)
    if options.address_fd is not None:
        with contextlib.suppress(BrokenPipeError), os.fdopen(options.address_fd, "w") as pipe:
            pipe.write(f"{address}\n")
    while not stop.wait(1):
        if options.parent_pid is not None and os.getppid() != options.parent_pid:
            break  # where there is no death signal
    # Not by returning: while answers are under way, the server's destructor does not come back. Who
    # waits for them sees the connection close, and asks again elsewhere.
    os._exit(0)


def _parameters(params: Any, options: ServerOptions) -> Any:
    """Fill in llama.cpp's parameters; the package has no types."""
    params.model.path = str(options.gguf)
    params.model_alias = [options.model]  # a plain string would be split into letters
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.context_tokens * options.slots
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = 0
    params.cont_batching = True
    # Fitting the parameters to the device's memory loads the model twice; they are given here.
    params.fit_params = False
    # The cache of old prompts may otherwise grow to 8 GiB, more than a runner pod has.
    params.cache_ram_mib = 0
    params.cache_idle_slots = False
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.verbosity = _LOG_WARNINGS
    return params


def _die_with(parent_pid: int) -> bool:
    """Ask the kernel to end this process with its parent; False if that has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


if __name__ == "__main__":
    sys.exit(serve(parse(sys.argv[1:])))
