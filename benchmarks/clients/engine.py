"""The engine as a runner pod runs it: plan, generate, finalize, journal, Parquet and metrics."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop
from aiohttp import web

from benchmarks import workload
from benchmarks.clients import protocol
from benchmarks.scenarios import calls
from kubesynth_api.runner_contract import METRICS_PATH, RunnerPhase
from kubesynth_runner import errors, progress, run, telemetry
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io import locations
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.phases.context import RunContext

PIPELINES = {
    "rewrite": workload.REWRITE,
    "questions": workload.QUESTIONS_AND_ANSWERS,
    **calls.PIPELINES,
    "routed": workload.ROUTED,
}


async def _main(arguments: argparse.Namespace) -> int:
    spec = workload.run_spec(
        arguments.url,
        arguments.input,
        arguments.output,
        workload.RunOptions(
            arguments.concurrency,
            PIPELINES[arguments.pipeline],
            arguments.rows_per_part,
            arguments.protocol,
            arguments.bucket,
            arguments.endpoint,
            arguments.adaptive,
            arguments.model,
            arguments.max_tokens,
        ),
    )
    state = progress.Progress(RunnerPhase.ALL)
    server = web.AppRunner(progress.application(state), access_log=None)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    port = server.addresses[0][1]
    protocol.metrics(f"http://127.0.0.1:{port}{METRICS_PATH}")
    environment = RunEnvironment(Mounts(), writer="benchmark")
    storage = locations.open_storage(spec.spec.output, environment.mounts)
    context = RunContext(spec, environment, storage, state, asyncio.Event())
    request = run.PhaseRequest(RunnerPhase(arguments.phase))
    try:
        message = await run.run_phase(context, request)
    finally:
        await server.cleanup()
    return message.totals.records.accepted if message.totals else 0


def main() -> None:
    """Run the phases that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pipeline", choices=PIPELINES, default="rewrite")
    parser.add_argument("--phase", choices=("all", "plan", "generate"), default="all")
    parser.add_argument("--rows-per-part", type=int)
    parser.add_argument("--protocol", choices=("OpenAI", "Triton"), default="OpenAI")
    parser.add_argument("--bucket", help="instead of --output: a URI in an S3 store")
    parser.add_argument("--endpoint", help="URL of that store")
    parser.add_argument("--adaptive", choices=("Refusals", "Latency"), default="Refusals")
    arguments = protocol.parse(parser)
    telemetry.configure("WARNING")
    run.collect_rarely()
    protocol.ready()
    try:
        protocol.done(uvloop.run(_main(arguments)))
    except errors.FencedError as fenced:
        sys.exit(int(fenced.exit_code))


if __name__ == "__main__":
    main()
