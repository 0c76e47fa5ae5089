"""What a client under test is told, and what it prints. Standard library only.

It is called with `--url --model --input --rows --concurrency --output` (see `parse`), prints a line
`{"event": "ready", ...}` when it has imported everything and is about to begin, and a line
`{"event": "done", ...}` at the end, with what the kernel says it has used. A client that serves
Prometheus metrics prints `{"event": "metrics", "url": ...}` in between and is scraped like in a
cluster.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator
from pathlib import Path

from benchmarks import machine


def parse(parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="base URL, with its /v1")
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--input", type=Path, required=True, help="JSON lines with id and text")
    parser.add_argument("--rows", type=int, required=True, help="how many of them to process")
    parser.add_argument("--concurrency", type=int, required=True, help="requests at once")
    parser.add_argument("--max-tokens", type=int, default=400, help="longest answer")
    parser.add_argument("--output", type=Path, required=True, help="folder, for those that write")
    return parser.parse_args()


def ready() -> None:
    """Say that everything is imported: what follows is counted."""
    _print("ready")


def metrics(url: str) -> None:
    """Say where metrics are."""
    _print("metrics", url=url)


def done(rows: int) -> None:
    """Say that the work is done, and how many rows came out."""
    _print("done", rows=rows)


def texts(path: Path, rows: int) -> Iterator[str]:
    """Yield the texts of the first so many documents."""
    with path.open("rb") as lines:
        for _, line in zip(range(rows), lines, strict=False):
            yield json.loads(line)["text"]


def _print(event: str, **facts: str | int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    line = {
        "event": event,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_resident_bytes": machine.peak_resident_bytes(),
        **facts,
    }
    print(json.dumps(line), flush=True)
