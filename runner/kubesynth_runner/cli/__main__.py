"""The command line. Each command's module is imported only when it is run: --help is at once."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from kubesynth_api.version import VERSION
from kubesynth_runner import telemetry
from kubesynth_runner.cli.errors import CommandError

DESCRIPTION = "Synthetic text data from the manifests of a cluster, without a cluster."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parsed = build_parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    telemetry.keep_quiet()
    try:
        return int(parsed.command(parsed))
    except CommandError as exc:
        print(exc, file=sys.stderr)
        return exc.exit_code
    except BrokenPipeError:  # of `kubesynth show ... | head`
        sys.stderr.close()
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="kubesynth", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"kubesynth {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    validate = commands.add_parser("validate", help="check manifests, all problems at once")
    validate.add_argument("manifests", nargs="+", metavar="JOB.yaml", help="- is standard input")
    validate.set_defaults(command=_validate)
    show = commands.add_parser("show", help="print the first rows of a dataset")
    show.add_argument("output", metavar="OUTPUT", help="folder of a finished run")
    show.add_argument("--rows", type=_natural, default=5, metavar="N", help="rows (default: 5)")
    show.add_argument("--all-columns", action="store_true", help="lineage and provenance too")
    show.set_defaults(command=_show)
    _add_estimate(commands)
    _add_prompts(commands)
    _add_local(commands)
    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command=_version)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="run a job in this process",
        description="Run the one job of a manifest. Run it again to go on after an interruption.",
    )
    run.add_argument("manifest", metavar="JOB.yaml", help="- is standard input")
    _add_mappings(run)
    run.set_defaults(command=_run)


def _add_mappings(command: argparse.ArgumentParser) -> None:
    for flag, value, explanation in (
        ("--secret", "NAME=DIR_OR_ENVFILE", "a Secret: a folder of keys, or a file of KEY=VALUE"),
        ("--config", "NAME=DIR_OR_FILE", "a ConfigMap: a folder of keys, or one file"),
        ("--volume", "CLAIM=DIR", "a volume claim: a folder"),
        ("--server", "NAME=URL[#MODEL]", "a model server, by its name or the model's role"),
    ):
        command.add_argument(flag, action="append", default=[], metavar=value, help=explanation)


def _add_estimate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    estimate = commands.add_parser(
        "estimate",
        help="say what a job should take",
        description="Calls, tokens, rows and cost of a job, stage by stage. Asks no model.",
    )
    estimate.add_argument("manifest", metavar="JOB.yaml", help="- is standard input")
    _add_mappings(estimate)
    estimate.add_argument(
        "--records", type=_natural, metavar="N", help="input records, if the input is not at hand"
    )
    estimate.add_argument(
        "--characters", type=_natural, metavar="N", help="of an average record, with --records"
    )
    estimate.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="ROLE=PROMPT,COMPLETION",
        help="dollars per million tokens of a model",
    )
    estimate.add_argument("--output", choices=("table", "json"), default="table", dest="form")
    estimate.set_defaults(command=_estimate)


def _add_prompts(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prompts = commands.add_parser("prompts", help="the built-in prompts").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    listed = prompts.add_parser("list", help="their names, stages and placeholders")
    listed.set_defaults(command=_list_prompts)
    shown = prompts.add_parser("show", help="those of a stage, and what they ask for and why")
    shown.add_argument("stage", metavar="STAGE", help="as in a manifest: openQA")
    shown.set_defaults(command=_show_prompts)


def _add_local(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    local = commands.add_parser("local", help="the embedded model").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    pull = local.add_parser("pull", help="get the embedded model's weights")
    serve = local.add_parser("serve", help="serve the embedded model to other programs")
    for command in (pull, serve):
        command.add_argument(
            "--dir", type=Path, help="folder of the weights (default: $KUBESYNTH_MODEL_DIR)"
        )
        command.add_argument("--gguf", type=Path, help="a gguf file of your own")
    pull.set_defaults(command=_local_pull)
    serve.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    serve.add_argument("--port", type=_natural, default=8000, help="port (default: 8000)")
    serve.add_argument("--slots", type=_positive, default=4, help="requests served at once")
    serve.add_argument("--context-tokens", type=_positive, default=2048, help="per request")
    serve.add_argument("--threads", type=_positive, help="default: all CPUs but one, 8 at most")
    serve.set_defaults(command=_local_serve)


def _natural(text: str) -> int:
    return _whole_number(text, least=0)


def _positive(text: str) -> int:
    return _whole_number(text, least=1)


def _whole_number(text: str, *, least: int) -> int:
    # Of ASCII digits alone: int() takes " 1_0" as well.
    value = int(text) if text.isascii() and text.isdigit() else -1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more, not {text!r}")
    return value


def _run(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import job_run, mappings

    flags = mappings.Flags(parsed.config, parsed.secret, parsed.volume, parsed.server)
    return job_run.run(parsed.manifest, flags)


def _estimate(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import job_estimate, mappings

    flags = mappings.Flags(parsed.config, parsed.secret, parsed.volume, parsed.server)
    options = job_estimate.Options(
        parsed.records, parsed.characters, parsed.price, parsed.form == "json"
    )
    return job_estimate.estimate(parsed.manifest, flags, options)


def _list_prompts(_parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import builtin_prompts

    return builtin_prompts.list_prompts()


def _show_prompts(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import builtin_prompts

    return builtin_prompts.show(parsed.stage)


def _validate(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import job_validate

    return job_validate.validate(parsed.manifests)


def _show(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import show

    return show.show(parsed.output, parsed.rows, all_columns=parsed.all_columns)


def _local_pull(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import local_model

    return local_model.pull(parsed.dir, parsed.gguf)


def _local_serve(parsed: argparse.Namespace) -> int:
    from kubesynth_runner.cli import local_model

    options = local_model.ServeOptions(
        parsed.host, parsed.port, parsed.slots, parsed.context_tokens, parsed.threads
    )
    return local_model.serve(parsed.dir, parsed.gguf, options)


def _version(parsed: argparse.Namespace) -> int:
    print(f"kubesynth {VERSION} (Python {sys.version.split()[0]})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
