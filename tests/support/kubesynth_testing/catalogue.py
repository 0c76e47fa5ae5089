"""Rows for the catalogue of stages, docs/stages.md: every example on the embedded model.

    PYTHONPATH=tests/support .venv/bin/python -m kubesynth_testing.catalogue [STAGE...]

runs the examples (those of all stages: some minutes of one core) and puts the first three rows of
each stage, in the order of their ids, into the page. Nothing is chosen by hand. Examples are made
smaller: fewer records and topics, no stage after the last one that is shown, and no completion of
more than a few hundred tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from kubesynth_api.columns import added_by
from kubesynth_api.v1alpha1.pipeline import STAGE_KINDS, Stage
from kubesynth_runner.embedded.process import EmbeddedOptions, EmbeddedServer
from kubesynth_runner.embedded.weights import model_folder, pull
from kubesynth_testing.cli_process import kubesynth
from kubesynth_testing.runs import Row, read_rows

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "stages.md"
EXAMPLES = REPOSITORY / "examples"
# One block for each stage; its rows are JSON Lines.
BLOCK = re.compile(
    r"^\*\*`(?P<stage>\w+)`\*\*, \[(?P<example>[\w.-]+)\]\(\.\./examples/(?P=example)\)\n\n"
    r"```json\n(?P<rows>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ROWS = 3
MAX_CHARACTERS = 160
_CUT = " …"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """What is run for some stages: the stages, each with the columns to show before its own.

    `changes` are made to the example's spec, by path.
    """

    example: str
    shown: Mapping[str, tuple[str, ...]]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


# Left alone, so small a model says the same again until it is cut off.
SAMPLING = {"temperature": 0.7, "frequencyPenalty": 0.6, "maxTokens": 240}
TREE = {"macroTopics": 3, "subtopics": 2, "combineTopics": False}
SHORT = {"maxTokens": 80}
OWN_TOPICS = {
    "macroTopics": 0,
    "subtopics": 0,
    "additionalSubtopics": ["bread", "owls", "tides", "maps", "honey"],
}
SAMPLES = (
    Sample(
        "open-qa",
        {"openQA": ()},
        {"pipeline.0.openQA": {**TREE, "additionalTopics": [], "questions": 1, "revisions": 1}},
    ),
    Sample("math", {"math": ()}, {"pipeline.0.math": {**TREE, "problems": 1}}),
    Sample("coding", {"coding": ()}, {"pipeline.0.coding": {**TREE, "problems": 1}}),
    Sample(
        "writing",
        {"writing": ()},
        {"pipeline.0.writing": {"topics": ["a school trip"], "tasks": 1, "revisions": 1}},
    ),
    Sample("multilingual-qa", {"multilingualQA": ()}, {"pipeline.0.multilingualQA.samples": 6}),
    Sample(
        "closed-qa-local", {"closedQA": ("title",), "answer": ("question",)}, {"input.limit": 3}
    ),
    Sample("distill", {"segment": ("title", "text"), "distill": ("title",)}, {"input.limit": 3}),
    Sample(
        "nemotron-cc",
        {
            "wikipediaRewrite": (),
            "diverseQA": (),
            "extractKnowledge": (),
            "knowledgeList": (),
        },
    ),
    Sample(
        "dialogue",
        {"dialogue": (), "score": ()},
        {
            "models.0.sampling": SHORT,
            "pipeline.0.openQA": {**OWN_TOPICS, "questions": 1},
            "pipeline.1.dialogue.userTurns": 2,
        },
    ),
    Sample(
        "preference-pairs",
        {"twoTurnPrompt": ("question",), "preferencePairs": ()},
        {
            "models.0.sampling": SHORT,
            "pipeline.0.coding": {**OWN_TOPICS, "problems": 1},
            "pipeline.2.preferencePairs": {"answers": 2, "minMargin": 0},
        },
    ),
    Sample("classify-entities", {"classifyEntity": ("entity",)}),
    Sample(
        "translate",
        {"translate": ("title",)},
        {"input.limit": 4, "pipeline.0.translate.columns": ["title"]},
    ),
    Sample("custom-prompt", {"prompt": ("fact",)}, {"input.limit": 3}),
    Sample("plugin", {"plugin": (), "filter": ("headline", "characters")}, {"input.limit": 3}),
)


def main(arguments: list[str]) -> int:
    """Run the samples of some stages, or of all, and put their rows into the page."""
    parser = argparse.ArgumentParser(prog="kubesynth_testing.catalogue", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="without any, all of them")
    wanted = set(parser.parse_args(arguments).stages)
    if unknown := wanted - set(STAGE_KINDS):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    samples = [each for each in SAMPLES if not wanted or wanted & set(each.shown)]
    found = asyncio.run(_run_all(samples))
    PAGE.write_text(BLOCK.sub(lambda match: _replaced(match, found), PAGE.read_text()))
    missing = {stage for each in samples for stage in each.shown} - set(found)
    for stage in sorted(missing):
        print(f"{stage}: fewer than {ROWS} rows came out; the page keeps what it has")
    return 1 if missing else 0


def _replaced(match: re.Match[str], found: Mapping[str, str]) -> str:
    rows = found.get(match["stage"])
    return match[0] if rows is None else match[0].replace(match["rows"], rows)


async def _run_all(samples: list[Sample]) -> dict[str, str]:
    found: dict[str, str] = {}
    async with EmbeddedServer(pull(model_folder()), EmbeddedOptions(slots=4)) as server:
        for sample in samples:
            with tempfile.TemporaryDirectory() as folder:
                rows = await _run(sample, server, Path(folder))
            print(f"{sample.example}: {len(rows)} rows", flush=True)
            for stage, shown in sample.shown.items():
                columns = columns_of(stage, sample)
                lines = [
                    f"{line}\n" for line in (_line(row, shown, columns) for row in rows) if line
                ]
                if len(lines) >= ROWS:
                    found[stage] = "".join(lines[:ROWS])
    return found


async def _run(sample: Sample, server: EmbeddedServer, folder: Path) -> list[Row]:
    manifest = manifest_of(sample)
    spec = manifest["spec"]
    for model in spec["models"]:
        model.pop("embedded", None)
        model["external"] = {"url": server.url, "model": server.model}
        model["limits"] = {"concurrency": 4}
    spec["failurePolicy"] = {"maxFailedRecordsPercent": 100}
    spec["output"] = {"uri": f"file://{folder}/out"}
    uri = spec.get("input", {}).get("uri", "")
    if uri.startswith("file://"):
        spec["input"]["uri"] = f"file://{EXAMPLES / uri.removeprefix('file://')}"
    (folder / "job.yaml").write_text(yaml.safe_dump(manifest))
    configs = [f"--config={name}={path}" for name, path in _config_maps()]
    code, out, err = await kubesynth("run", folder / "job.yaml", *configs)
    if code:
        print(f"{sample.example}: exit code {code}\n{out}{err}")
        return []
    return read_rows(folder / "out")


def manifest_of(sample: Sample) -> dict[str, Any]:
    """Return the example as it is run, but for the model's address and the folders."""
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLES / f"{sample.example}.yaml").read_text())
    spec = manifest["spec"]
    while not set(spec["pipeline"][-1]) & set(sample.shown):
        spec["pipeline"].pop()
    for model in spec["models"]:
        model["sampling"] = dict(SAMPLING)
    for path, value in sample.changes.items():
        _change(spec, path.split("."), value)
    return manifest


def _config_maps() -> Iterator[tuple[str, Path]]:
    for path in (EXAMPLES / "data").iterdir():
        yield ("plugins" if path.suffix == ".py" else path.stem), path


def _change(spec: Any, path: list[str], value: Any) -> None:
    """Set what is at a path; fields of an object are set one by one."""
    for part in path[:-1]:
        spec = spec[int(part)] if isinstance(spec, list) else spec[part]
    if isinstance(value, Mapping):
        spec[path[-1]].update(value)
    else:
        spec[path[-1]] = value


def columns_of(stage: str, sample: Sample) -> list[str]:
    """Return the columns that the last stage of a kind adds, in the order that it names them in."""
    members = [Stage.model_validate(each) for each in manifest_of(sample)["spec"]["pipeline"]]
    member = [each.member for each in members if each.kind == stage][-1]
    return [*dict.fromkeys([*member.adds().values(), *sorted(added_by(member))])]


def _line(row: Row, shown: tuple[str, ...], columns: list[str]) -> str | None:
    """Return a row as it is shown; None if the stage has not seen it."""
    if columns and all(row.get(name) is None for name in columns):
        return None
    names = dict.fromkeys([*shown, *columns])
    return json.dumps({name: _cut(_decoded(row[name])) for name in names}, ensure_ascii=False)


def _decoded(value: Any) -> Any:
    """Return what a column holds that holds JSON."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _cut(value: Any) -> Any:
    match value:
        case str() if len(value) > MAX_CHARACTERS:
            return value[:MAX_CHARACTERS].rstrip() + _CUT
        case list():
            return [_cut(item) for item in value]
        case dict():
            return {name: _cut(item) for name, item in value.items()}
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
