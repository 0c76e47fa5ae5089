"""The engine beside clients that do less, on a real vLLM server: what of its throughput arrives.

    vllm serve MODEL --no-enable-prefix-caching --max-num-seqs=512     # wherever the GPU is
    python -m benchmarks.real_server --url http://gpu:8000/v1 --model MODEL

All clients send the same prompts. The engine and the bare client take turns, in an order that
alternates; the others come once, at the end. Rates and busy slots are read
off the server's own metrics, twice a second, between the first and the last tenth of the answers:
start and end of a client are not its throughput. `rows_per_second` is that of the whole run
instead, from the end of the imports; the engine's has plan, journal and Parquet in it.
`--vllm-bench` adds `vllm bench serve`, where vLLM is installed here, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import workload

SAMPLING_SECONDS = 0.5
_METRIC = re.compile(r"^vllm:(\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The server's counters at a time, in seconds."""

    at: float
    answers: float
    tokens: float
    running: float
    waiting: float
    preemptions: float


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What one run of a client reached. Rates are per second, preemptions of the whole run."""

    client: str
    rows: int
    seconds: float
    rows_per_second: float
    answers_per_second: float
    tokens_per_second: float
    running: float
    waiting: float
    preemptions: int
    client_cpu_seconds: float


def read_sample(metrics: str, at: float) -> Sample:
    """Return the counters in vLLM's metrics."""
    sums: dict[str, float] = {}
    for name, value in _METRIC.findall(metrics):
        sums[name] = sums.get(name, 0.0) + float(value)
    return Sample(
        at,
        sums["request_success_total"],
        sums["generation_tokens_total"],
        sums["num_requests_running"],
        sums["num_requests_waiting"],
        sums["num_preemptions_total"],
    )


def middle(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples between the first and the last tenth of the answers; all, if too few."""
    first, last = samples[0].answers, samples[-1].answers
    tenth = (last - first) / 10
    found = [each for each in samples if first + tenth <= each.answers <= last - tenth]
    return found if len(found) > 1 else list(samples)


class Watch:
    """Samples the server's metrics while it is open."""

    def __init__(self, metrics_url: str) -> None:
        self._url = metrics_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.samples: list[Sample] = []

    def __enter__(self) -> Watch:
        self._take()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._take()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLING_SECONDS):
            self._take()

    def _take(self) -> None:
        with urllib.request.urlopen(self._url, timeout=30) as response:
            text = response.read().decode()
        self.samples.append(read_sample(text, time.monotonic()))


def _commands(arguments: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """Return how each client is started."""

    def client(module: str, concurrency: int, *more: str) -> list[str]:
        return [
            *(sys.executable, "-m", f"benchmarks.clients.{module}", "--url", arguments.url),
            *("--model", arguments.model, "--input", str(folder / "documents.jsonl")),
            *("--rows", str(arguments.rows), "--concurrency", str(concurrency)),
            *("--max-tokens", str(arguments.max_tokens), "--output", "OUTPUT", *more),
        ]

    found = {
        "kubesynth": client("engine", arguments.concurrency),
        "bare aiohttp": client("bare_aiohttp", arguments.concurrency),
    }
    if arguments.adaptive:
        found["kubesynth, Latency"] = client("engine", arguments.adaptive, "--adaptive", "Latency")
    if arguments.vllm_bench:
        found["vllm bench serve"] = [
            *("vllm", "bench", "serve", "--backend=openai-chat", "--endpoint=/v1/chat/completions"),
            *(f"--base-url={arguments.url.removesuffix('/v1')}", f"--model={arguments.model}"),
            *(f"--tokenizer={arguments.vllm_bench}", "--dataset-name=custom"),
            *(f"--dataset-path={folder / 'prompts.jsonl'}", "--disable-shuffle"),
            *(f"--custom-output-len={arguments.max_tokens}", f"--num-prompts={arguments.rows}"),
            *(f"--max-concurrency={arguments.concurrency}", "--num-warmups=0"),
        ]
    return found


def order(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield the first two in rounds, every other one backwards; then the others, once each."""
    for number in range(rounds):
        yield from names[:2] if number % 2 == 0 else names[1::-1]
    yield from names[2:]


def _run(name: str, command: list[str], arguments: argparse.Namespace, output: Path) -> Result:
    """Run a client and return what the server saw of it."""
    command = [str(output) if each == "OUTPUT" else each for each in command]
    metrics_url = f"{arguments.url.removesuffix('/v1')}/metrics"
    events: dict[str, Any] = {}
    with Watch(metrics_url) as watch:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('{"event"'):
                event = json.loads(line)
                events[event["event"]] = event | {"at": time.monotonic()}
        code = process.wait()
        ended = time.monotonic()
    shutil.rmtree(output, ignore_errors=True)
    if code:
        raise SystemExit(f"{name} ended with exit code {code}")
    answers = int(watch.samples[-1].answers - watch.samples[0].answers)
    rows = events["done"]["rows"] if "done" in events else answers
    seconds = (events["done"]["at"] - events["ready"]["at"]) if events else ended - started
    steady = middle(watch.samples)
    span = steady[-1].at - steady[0].at
    return Result(
        name,
        rows,
        round(seconds, 2),
        round(rows / seconds, 1),
        round((steady[-1].answers - steady[0].answers) / span, 1),
        round((steady[-1].tokens - steady[0].tokens) / span),
        round(statistics.fmean(each.running for each in steady), 1),
        round(statistics.fmean(each.waiting for each in steady), 1),
        int(watch.samples[-1].preemptions - watch.samples[0].preemptions),
        round(events["done"]["cpu_seconds"], 2) if events else 0.0,
    )


def main(command_line: Sequence[str] | None = None) -> None:
    """Run the clients, print a line for each run and the medians."""
    parser = argparse.ArgumentParser(prog="benchmarks.real_server", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--url", required=True, help="base URL, with its /v1")
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--words", type=int, default=workload.DOCUMENT_WORDS, help="of a document")
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--adaptive", type=int, metavar="CONCURRENCY", help="also with Latency")
    parser.add_argument("--vllm-bench", metavar="TOKENIZER", help="also `vllm bench serve`")
    arguments = parser.parse_args(command_line)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        documents = folder / "documents.jsonl"
        workload.write_documents(documents, arguments.rows, arguments.words)
        with (folder / "prompts.jsonl").open("w") as prompts:
            for line in documents.read_text().splitlines():
                prompts.write(json.dumps({"prompt": workload.PROMPT + json.loads(line)["text"]}))
                prompts.write("\n")
        commands = _commands(arguments, folder)
        for number, client in enumerate(order(list(commands), arguments.rounds)):
            result = _run(client, commands[client], arguments, folder / f"output-{number}")
            print(json.dumps(dataclasses.asdict(result)), flush=True)
            results.append(result)
    results.sort(key=lambda each: each.client)
    for client, runs in itertools.groupby(results, key=lambda each: each.client):
        rates = [each.answers_per_second for each in runs]
        print(f"{client}: {statistics.median(rates):.1f} answers/s")


if __name__ == "__main__":
    main()
