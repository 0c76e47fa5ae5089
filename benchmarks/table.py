"""Results as one table: medians of the rounds, ratios within a round, and the targets."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence

from benchmarks import clients
from benchmarks.scenarios import knee, memory, rate_limit, slots, throughput, triton
from benchmarks.scenarios.calls import Calls
from benchmarks.scenarios.kill import Kill
from benchmarks.scenarios.knee import Knee
from benchmarks.scenarios.memory import Memory
from benchmarks.scenarios.slots import Slots
from benchmarks.scenarios.startup import Startup
from benchmarks.scenarios.ugly_lists import UglyLists
from benchmarks.trial import Trial

ENGINE = clients.ENGINE.title
BARE = clients.BARE_AIOHTTP.title
MEGABYTE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. `value` is what is held against the target, if there is one."""

    title: str
    cells: Mapping[str, str]
    target: str = ""
    is_met: bool | None = None


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def of_throughput(trials: Mapping[str, list[Trial]]) -> list[Row]:
    """Return items per second, the share of the limit, and CPU per row."""
    limit = throughput.LIMIT_PER_SECOND
    rate = {title: median(_rates(runs)) for title, runs in trials.items()}
    share = rate[ENGINE] / limit
    to_bare = _ratio(trials, lambda trial: trial.server.items_per_second)
    cpu_to_bare = _ratio(trials, lambda trial: trial.cpu_ms_per_answer)
    cpu = {
        title: median([trial.cpu_ms_per_answer for trial in runs]) for title, runs in trials.items()
    }
    size = f"{throughput.LATENCY_SECONDS * 1000:.0f} ms, C={throughput.CONCURRENCY}"
    return [
        Row(
            f"items/s ({size}, limit {limit:,.0f})",
            {title: f"{value:,.0f} ({value / limit:.0%})" for title, value in rate.items()},
            "≥ 90 % of the limit",
            share >= 0.9,
        ),
        Row(
            "— relative to bare aiohttp",
            {title: f"{value:.2f}" for title, value in to_bare.items()},
            "≥ 0.95",
            to_bare[ENGINE] >= 0.95,
        ),
        Row(
            "CPU ms per row",
            {title: f"{value:.2f}" for title, value in cpu.items()},
        ),
        Row(
            "— relative to bare aiohttp",
            {title: f"{value:.1f}" for title, value in cpu_to_bare.items()},
            "≤ 2",
            cpu_to_bare[ENGINE] <= 2.0,
        ),
        Row(
            "rows/s with start-up, plan and last part",
            {
                title: f"{median([run.rows / run.total_seconds for run in runs]):,.0f}"
                for title, runs in trials.items()
            },
        ),
    ]


def _rates(trials: list[Trial]) -> list[float]:
    return [trial.server.items_per_second for trial in trials]


def _ratio(
    trials: Mapping[str, list[Trial]], measure: Callable[[Trial], float]
) -> dict[str, float]:
    """Return each client's measure relative to bare aiohttp's of the same round."""
    return {
        title: median(
            [measure(run) / measure(bare) for run, bare in zip(runs, trials[BARE], strict=True)]
        )
        for title, runs in trials.items()
    }


def of_slots(result: Slots) -> list[Row]:
    """Return busy slots."""
    busy = {
        name: median([trial.server.mean_concurrency for trial in trials])
        for name, trials in (
            ("engine", result.engine),
            ("bare", result.bare_aiohttp),
            ("pipeline", result.pipeline),
        )
    }
    where = f"of {slots.CONCURRENCY}, log-normal sigma {slots.SIGMA}"
    return [
        Row(
            f"busy slots {where}",
            {ENGINE: f"{busy['engine']:.1f}", BARE: f"{busy['bare']:.1f}"},
            "≥ 56",
            busy["engine"] >= 56,
        ),
        Row(
            f"busy slots {where}, closedQA → answer",
            {ENGINE: f"{busy['pipeline']:.1f}"},
            "≥ 56",
            busy["pipeline"] >= 56,
        ),
    ]


def of_rate_limit(trials: Mapping[str, list[Trial]]) -> list[Row]:
    """Return what came of a server that admits 100 requests per second."""
    rows = {title: min(trial.rows for trial in runs) for title, runs in trials.items()}
    wall = {
        title: median([trial.server.span_seconds for trial in runs])
        for title, runs in trials.items()
    }
    refused = {
        title: median([trial.server.refused for trial in runs]) for title, runs in trials.items()
    }
    return [
        Row(
            f"429 test: rows of {rate_limit.ROWS}",
            {title: str(value) for title, value in rows.items()},
            "all",
            rows[ENGINE] == rate_limit.ROWS,
        ),
        Row(
            f"429 test: seconds (ideal {rate_limit.IDEAL_SECONDS:.1f})",
            {title: f"{value:.1f}" for title, value in wall.items()},
            "≤ 9.2",
            wall[ENGINE] <= 9.2,
        ),
        Row(
            "429 test: 429s",
            {title: f"{value:.0f}" for title, value in refused.items()},
            "≤ 40",
            refused[ENGINE] <= 40,
        ),
    ]


def of_knee(result: Knee) -> list[Row]:
    """Return how a server that only queues was used."""
    rates = {
        name: median(_rates(trials))
        for name, trials in (("latency", result.latency), ("refusals", result.refusals))
    }
    per_slot = {
        name: median([trial.server.mean_concurrency for trial in trials]) / knee.SLOTS
        for name, trials in (("latency", result.latency), ("refusals", result.refusals))
    }
    shares = {name: rate / knee.CAPACITY_PER_SECOND for name, rate in rates.items()}
    where = f"queueing server of {knee.SLOTS} slots, C={knee.CONCURRENCY}"
    return [
        Row(
            f"{where}: share of its capacity",
            {ENGINE: f"{shares['latency']:.0%} ({shares['refusals']:.0%} unadapted)"},
            "≥ 0.9 of unadapted",
            shares["latency"] >= 0.9 * shares["refusals"],
        ),
        Row(
            f"{where}: requests under way per slot",
            {ENGINE: f"{per_slot['latency']:.1f} ({per_slot['refusals']:.1f} unadapted)"},
            "≤ 2",
            per_slot["latency"] <= 2.0,
        ),
    ]


def of_kill(results: Mapping[str, list[Kill]]) -> list[Row]:
    """Return what it has cost to lose the process at half, the worst of all rounds."""
    every = [kill for kills in results.values() for kill in kills]
    lost, duplicated = max(k.lost for k in every), max(k.duplicated for k in every)
    titles = {
        "disk": ("kill -9 at half: calls issued again, disk kept", "in flight"),
        "bucket": ("— pod replaced, output in a bucket", "in flight + 1 s"),
        "stale": ("— a stale writer wakes up", "2 x in flight + 1 s"),
    }
    rows = []
    for case, kills in results.items():
        worst = max(kills, key=lambda kill: kill.reissued)
        title, bound = titles[case]
        target = f"≤ {worst.allowed} ({bound})"
        is_met = worst.reissued <= worst.allowed
        rows.append(Row(title, {ENGINE: str(worst.reissued)}, target, is_met))
    return [
        *rows,
        Row(
            "— rows lost, duplicated, in all three",
            {ENGINE: f"{lost}, {duplicated}"},
            "0, 0",
            not lost and not duplicated,
        ),
    ]


def of_memory(runs: list[Memory]) -> list[Row]:
    """Return peaks and their slope."""
    resident = ", ".join(f"{run.peak_resident_bytes / MEGABYTE:.0f}" for run in runs)
    slope = memory.slope_bytes_per_row(runs)
    is_full = runs[-1].rows >= MEGABYTE
    return [
        _peaks(runs, "peak PSS, MB, at {} rows", f"resident {resident}"),
        Row(
            f"— growth from {runs[-2].rows:,} to {runs[-1].rows:,}, bytes per row",
            {ENGINE: f"{slope:.0f}"},
            "≤ 50" if is_full else "≤ 50 (100 k to 1 M)",
            slope <= 50 if is_full else None,
        ),
    ]


def of_triton(trials: Mapping[str, list[Trial]]) -> list[Row]:
    """Return the engine's pace on Triton beside tritonclient's, within each round."""
    engine, bare = trials[triton.ENGINE.title], trials[triton.BARE]
    pace = {
        title: median([triton.rows_per_second(done) for done in runs])
        for title, runs in trials.items()
    }
    share = median(
        [
            triton.rows_per_second(ours) / triton.rows_per_second(theirs)
            for ours, theirs in zip(engine, bare, strict=True)
        ]
    )
    size = f"{triton.LATENCY_SECONDS * 1000:.0f} ms, C={triton.CONCURRENCY}"
    return [
        Row(
            f"Triton over gRPC, rows/s ({size}), relative to {triton.BARE}",
            {ENGINE: f"{share:.2f} ({pace[triton.ENGINE.title]:.0f} to {pace[triton.BARE]:.0f})"},
            "≥ 0.90",
            share >= 0.9,
        )
    ]


def of_documents(runs: list[Memory]) -> list[Row]:
    """Return the peaks of the routed document stages, and their growth."""
    what = "five document stages, routed: peak PSS, MB, at {} documents"
    slope = memory.slope_bytes_per_row(runs)
    return [_peaks(runs, what, f"growth {slope:.0f} bytes per document")]


def _peaks(runs: list[Memory], what: str, beside: str) -> Row:
    """Return the row of the peaks; their lengths go into `what`."""
    peaks = ", ".join(f"{run.peak_proportional_bytes / MEGABYTE:.0f}" for run in runs)
    return Row(
        what.format(", ".join(f"{run.rows:,}" for run in runs)),
        {ENGINE: f"{peaks} ({beside})"},
        "≤ 130",
        runs[-1].peak_proportional_bytes <= 130 * MEGABYTE,
    )


def of_lists(results: list[UglyLists]) -> list[Row]:
    """Return the shares of ugly lists that are read exactly right."""
    return [_of_set(result) for result in results]


def _of_set(result: UglyLists) -> Row:
    share = result.right / result.answers
    shown = f"{result.right} ({share:.1%})"
    if result.right_at_first is not None:
        shown += f"; {result.right_at_first / result.answers:.1%} before the parser had seen any"
    what = result.name.replace("_", " ")
    return Row(
        f"{what} read exactly right, of {result.answers}",
        {ENGINE: shown},
        "≥ 99 %",
        share >= 0.99,
    )


def of_startup(result: Startup) -> list[Row]:
    """Return the start with most of a shard done, against one with nothing done."""
    seconds = median([start.seconds for start in result.resumed])
    cpu = median([start.cpu_seconds for start in result.resumed])
    idle = median([start.seconds for start in result.idle])
    grown = median(
        [
            after.proportional_bytes - before.proportional_bytes
            for after, before in zip(result.resumed, result.idle, strict=True)
        ]
    )
    done = f"{result.resumed[0].rows_done:,}"
    return [
        Row(
            f"start to first request, {done} rows done, s",
            {ENGINE: f"{seconds:.1f} ({cpu:.1f} of CPU; {idle:.1f} with none)"},
            "≤ 3",
            seconds <= 3.0,
        ),
        Row(
            "— memory above a start with none, MB",
            {ENGINE: f"{grown / MEGABYTE:.0f}"},
            "≤ 50",
            grown <= 50 * MEGABYTE,
        ),
    ]


def of_calls(runs: list[Calls]) -> list[Row]:
    """Return calls per accepted row, relative to Curator's formulas."""
    return [
        Row(
            f"calls per row, {run.pipeline} (Curator's formula: {run.curators_per_row:.2f})",
            {
                ENGINE: f"{run.per_row:.2f}: {run.per_row / run.curators_per_row:.2f}x"
                f" ({run.requests:,} for {run.rows:,})"
            },
            "≤ 0.55x",
            run.per_row <= 0.55 * run.curators_per_row,
        )
        for run in runs
    ]


def render(rows: list[Row]) -> str:
    """Return the rows as a table in Markdown."""
    titles = [client.title for client in clients.ALL]
    lines = [["", *titles, "target", ""]]
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
        lines.append([row.title, *(row.cells.get(t, "") for t in titles), row.target, verdict])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [_line(line, widths) for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
