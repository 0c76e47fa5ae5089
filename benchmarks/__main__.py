"""`python -m benchmarks`: measure, and print one table."""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import endpoint_process, machine, table, trial
from benchmarks.scenarios import (
    FULL,
    QUICK,
    Bench,
    Sizes,
    calls,
    documents,
    kill,
    knee,
    memory,
    rate_limit,
    slots,
    startup,
    throughput,
    triton,
    ugly_lists,
)

SCENARIOS: dict[str, tuple[Callable[[Bench], Any], Callable[[Any], list[table.Row]]]] = {
    "throughput": (throughput.measure, table.of_throughput),
    "slots": (slots.measure, table.of_slots),
    "rate-limit": (rate_limit.measure, table.of_rate_limit),
    "knee": (knee.measure, table.of_knee),
    "kill": (kill.measure, table.of_kill),
    "memory": (memory.measure, table.of_memory),
    "documents": (documents.measure, table.of_documents),
    "lists": (ugly_lists.measure, table.of_lists),
    "startup": (startup.measure, table.of_startup),
    "triton": (triton.measure, table.of_triton),
    "calls": (calls.measure, table.of_calls),
}
SELF_TEST_SECONDS = 2.0
# What is between them in the README is the table.
BEGIN_MARK = "<!-- make bench -->"
END_MARK = "<!-- end of make bench -->"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="one short round of each: a minute")
    size.add_argument("--full", action="store_true", help="a run of a million rows too")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, help="leave out the others")
    parser.add_argument("--rounds", type=int, help="rounds of each; results are their medians")
    parser.add_argument("--check", action="store_true", help="fail if a target is missed")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"))
    parser.add_argument("--readme", type=Path, help="put the table between the marks of this file")
    parser.add_argument("--folder", type=Path, help="scratch folder; the disk matters")
    return parser.parse_args()


def main() -> int:
    """Measure, print, and with `--check` return 1 if a target was missed."""
    arguments = _parse()
    sizes = QUICK if arguments.quick else FULL if arguments.full else Sizes()
    if arguments.rounds:
        sizes = dataclasses.replace(sizes, rounds=arguments.rounds)
    cores = machine.choose_cores()
    where = machine.describe()
    _compile_sources()
    limits = endpoint_process.self_test(cores, SELF_TEST_SECONDS)
    results: dict[str, Any] = {}
    rows: list[table.Row] = []
    with tempfile.TemporaryDirectory(prefix="kubesynth-bench-", dir=arguments.folder) as folder:
        bench = Bench(cores, Path(folder), sizes)
        # The harness shares the endpoint's core: the client has its own.
        with machine.pinned(cores.server):
            for name, (measure, to_rows) in SCENARIOS.items():
                if arguments.only and name not in arguments.only:
                    continue
                began = time.monotonic()
                results[name] = measure(bench)
                rows += to_rows(results[name])
                print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    sys.stderr.flush()
    text = table.render(rows) + "\n" + _footnotes(where, cores, limits, results)
    print(text)
    if arguments.readme is not None:
        _quote(arguments.readme, text)
    _write(arguments.json, {"machine": where, "endpoint": limits, **results})
    return int(arguments.check and any(row.is_met is False for row in rows))


def _compile_sources() -> None:
    """Write bytecode, as the image has it: clients are not to compile the engine at every start."""
    for name in ("crds", "runner"):
        compileall.compile_dir(trial.REPOSITORY / name, quiet=1)


def _footnotes(
    where: str,
    cores: machine.Cores,
    limits: endpoint_process.SelfTest,
    results: dict[str, Any],
) -> str:
    lines = [
        "",
        f"Machine: {where}. Client on core {cores.client}, endpoint on core {cores.server}.",
        f"The endpoint alone answers {limits.requests_per_second:,.0f} requests/s of 1.1 kB with "
        f"{limits.endpoint_cpu_ms_per_request:.3f} ms of CPU each, so it is not what limits "
        "anybody.",
    ]
    if not cores.apart:
        lines.append("There is only one core: endpoint and client got in each other's way.")
    trials = results.get("throughput", {})
    if trials:
        loads = [trial.neighbour_load for runs in trials.values() for trial in runs]
        lines.append(
            f"Other processes took {min(loads):.0%} to {max(loads):.0%} of the client's core "
            "during the throughput rounds."
        )
    return "\n".join(lines)


def _quote(readme: Path, text: str) -> None:
    """Replace what is between the marks of a file."""
    before, begin, rest = readme.read_text().partition(BEGIN_MARK)
    _, end, after = rest.partition(END_MARK)
    if not end:
        raise ValueError(f"{readme} has no {BEGIN_MARK} ... {END_MARK}")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _write(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, default=dataclasses.asdict, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
