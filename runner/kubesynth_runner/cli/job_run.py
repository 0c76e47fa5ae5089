"""`kubesynth run`: a whole job in this process, all shards, from the manifest to the dataset."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import uvloop
from rich.console import Console

from kubesynth_api.conditions import Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import ExitCode, TokenCounts
from kubesynth_api.v1alpha1.storage import OutputSpec
from kubesynth_runner import errors
from kubesynth_runner import run as runs
from kubesynth_runner.cli import manifests, mappings
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.manifests import JobDocument, Manifest, Problem
from kubesynth_runner.cli.progress_view import BarView, LineView, ProgressView
from kubesynth_runner.engine import waiting
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io import locations, object_stores
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.phases import texts

# A second Ctrl-C does not wait for anything.
INTERRUPTED_EXIT_CODE = 130
# Of failed records, at the end of a run.
_MOST_KINDS = 3

_ENDS = {
    Reason.BUDGET_SPENT: "budget spent; raise spec.budget and run again to go on",
    Reason.TARGET_REACHED: "target reached",
    Reason.TARGET_MISSED: "complete, but short of spec.target: the input is used up",
}


@dataclasses.dataclass(frozen=True, slots=True)
class LocalRun:
    """A job that is ready to run: resolved and checked. `output` is a folder or a bucket's URI."""

    spec: RunSpec
    environment: RunEnvironment
    output: Path | str


def run(source: str, flags: mappings.Flags) -> int:
    """Run the one job of a manifest and return the exit code (`runner_contract.ExitCode`).

    Raises:
        CommandError: the manifest or a flag is wrong; nothing has been started.
    """
    # Secrets of the manifest and of environment files are written out here, and nowhere else.
    with tempfile.TemporaryDirectory(prefix="kubesynth-") as scratch:
        prepared = prepare(source, flags, Path(scratch))
        view = _make_view()
        try:
            runs.collect_rarely()
            # The view says it already.
            waiting.LOG.setLevel(logging.ERROR)
            outcome = uvloop.run(_run(prepared, view))
        finally:
            waiting.LOG.setLevel(logging.NOTSET)
            view.close()
    return _tell(prepared, outcome)


def prepare(source: str, flags: mappings.Flags, scratch: Path) -> LocalRun:
    """Turn a manifest and flags into a run.

    Raises:
        CommandError: the manifest or a flag is wrong, or a reference is not mapped.
    """
    manifest = manifests.read(source)
    document = manifests.the_job(manifest)
    if document.job is None:
        raise _refused(manifest, document, document.problems)
    spec = mappings.with_servers(document.job.spec, flags.server)
    job = document.job.model_copy(update={"spec": spec})
    mapped = mappings.map_objects(manifest, flags, scratch)
    prompts = mappings.prompt_texts(spec, mapped)
    problems = manifests.problems_of(job, prompts) or mappings.missing(spec, mapped)
    if problems:
        raise _refused(manifest, document, problems)
    for note in manifests.notes(document.job.spec):
        print(manifest.describe(document.document, note), file=sys.stderr)
    for said in mappings.notes(document.job.spec, spec):
        print(said, file=sys.stderr)
    for warning in mappings.unused(spec, flags):
        print(f"warning: {warning}", file=sys.stderr)
    writer = f"{socket.gethostname()} pid {os.getpid()}"
    environment = mappings.environment(spec, mapped, manifest.folder, writer)
    try:
        output = _output(spec.output, environment.mounts)
    except errors.RunnerError as exc:
        raise CommandError(f"spec.output.uri: {exc}") from exc
    draft = RunSpec(name=document.name, uid="", spec=spec)
    try:
        hashes = texts.hashes(spec, environment)
    except errors.RunnerError as exc:
        raise CommandError(str(exc)) from exc
    uid = _uid(draft, output, hashes)
    return LocalRun(draft.model_copy(update={"uid": uid}), environment, output)


def _output(output: OutputSpec, mounts: Mounts) -> Path | str:
    if object_stores.is_object_uri(output.uri):
        locations.open_storage(output, mounts)  # for its errors
        return output.uri
    # Unlike resolve(), leaves the user's links alone.
    return Path(os.path.abspath(locations.local_path(output.uri, mounts)))


def _uid(draft: RunSpec, output: Path | str, hashes: Mapping[str, str]) -> str:
    """Return the identity of the run: the same command again goes on with it.

    A manifest with another pipeline, or with another text behind one of its references (`hashes`),
    is another run, and meets `output.ifExists`.
    """
    content: list[Any] = [draft.name, str(output), draft.pipeline_hash()]
    if hashes:
        content.append(dict(hashes))
    text = json.dumps(content, sort_keys=True)
    return f"local-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _refused(
    manifest: Manifest, document: JobDocument, problems: tuple[Problem, ...]
) -> CommandError:
    lines = [manifest.describe(document.document, problem) for problem in problems]
    return CommandError("\n".join(lines))


def _make_view() -> ProgressView:
    console = Console(stderr=True)
    if console.is_terminal:
        return BarView(console)
    return LineView(lambda text: print(text, file=sys.stderr, flush=True))


async def _run(prepared: LocalRun, view: ProgressView) -> runs.RunOutcome:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            view.close()
            os._exit(INTERRUPTED_EXIT_CODE)
        # First: whoever read our messages may be gone, and then the note fails.
        stop.set()
        view.note(
            "stopping: calls under way are finished and kept; press Ctrl-C again to drop them"
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    return await runs.run_local(
        prepared.spec, prepared.environment, on_progress=view.show, stop=stop, note=view.note
    )


def _tell(prepared: LocalRun, outcome: runs.RunOutcome) -> int:
    """Print how the run ended."""
    totals = outcome.totals
    records, tokens = totals.records, totals.tokens
    counts = (
        f"{records.accepted:,} rows from {records.done:,} of {records.in_:,} input records"
        f" ({records.filtered:,} filtered, {records.failed:,} failed), {totals.requests.ok:,}"
        f" answers, {tokens.prompt:,} prompt and {tokens.completion:,} completion tokens"
    )
    if tokens.estimated:
        counts += " (estimated)" if tokens.estimated >= _total(tokens) else " (partly estimated)"
    if totals.cost_usd is not None:
        counts += f", ${totals.cost_usd:,.4f}"
    if outcome.exit_code is ExitCode.OK:
        print(f"{_ENDS.get(outcome.ended or Reason.NOT_COMPLETE, 'complete')}: {counts}")
        _tell_failures(prepared, outcome, sys.stdout)
        print(f"dataset: {_shown(prepared.output)}")
        if isinstance(prepared.output, Path):
            print(f"look at it: kubesynth show {_shown(prepared.output)}")
    elif outcome.exit_code is ExitCode.CHECKPOINTED:
        print(f"stopped: {counts}", file=sys.stderr)
        if outcome.waited_for:
            print(f"it was {outcome.waited_for}", file=sys.stderr)
        print("everything is kept; the same command goes on from here", file=sys.stderr)
    else:
        error = outcome.error
        print(f"failed: {error.message if error else 'unknown'}", file=sys.stderr)
        if records.done:
            print(f"so far: {counts}", file=sys.stderr)
        _tell_failures(prepared, outcome, sys.stderr)
        if outcome.exit_code is ExitCode.RETRY:
            print("what is done is kept; the same command tries again", file=sys.stderr)
    return int(outcome.exit_code)


def _tell_failures(prepared: LocalRun, outcome: runs.RunOutcome, stream: TextIO) -> None:
    """Print the commonest kinds of failures, and where all of them are."""
    for kind, count, message in outcome.failures[:_MOST_KINDS]:
        print(f"failed records: {count:,} {kind}, such as: {message}", file=stream)
    if outcome.failures:
        print(f"all of them: {_shown(prepared.output)}/errors", file=stream)


def _total(tokens: TokenCounts) -> int:
    return tokens.prompt + tokens.completion


def _shown(path: Path | str) -> Path | str:
    """Return a path as short as it can be from where the user stands."""
    here = Path.cwd()
    if isinstance(path, str):
        return path
    return path.relative_to(here) if path.is_relative_to(here) else path
