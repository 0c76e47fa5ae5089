"""Small runs for tests of the runner: a spec, its input, a model, and the dataset read back.

spec = a_run(tmp_path, documents=12)
rows = read_rows(tmp_path / "out")
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.run_manifest import RunManifest
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.phases.context import RunContext
from kubesynth_runner.progress import Progress

Row = dict[str, Any]


def write_documents(folder: Path, documents: int, *, per_file: int = 1000) -> None:
    """Write JSONL files of documents, each with an id and a text."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, documents, per_file):
        lines = [
            json.dumps({"id": f"doc-{number}", "text": f"Document {number} is about mills."})
            for number in range(start, min(documents, start + per_file))
        ]
        (folder / f"docs-{start:07d}.jsonl").write_text("\n".join(lines) + "\n")


def a_run(
    folder: Path, *, documents: int = 6, uid: str = "uid-1", name: str = "qa", **spec: Any
) -> RunSpec:
    """Return a run of closedQA and answer over documents in `folder`/in to `folder`/out.

    `spec` replaces whole fields of the job's spec, in the manifest's own names; fields of `output`
    are added to what is there.
    """
    if "input" not in spec and not (folder / "in").exists():
        write_documents(folder / "in", documents)
    output = {"uri": f"file://{folder}/out", "format": "JSONL", "rowsPerPart": 3}
    wire = {
        "models": [a_model("http://127.0.0.1:9/v1")],
        "seed": 1,
        "input": {"uri": f"file://{folder}/in/*.jsonl", "idColumn": "id"},
        "pipeline": [{"closedQA": {"questions": 2}}, {"answer": {}}],
        **spec,
        "output": output | spec.get("output", {}),
    }
    return RunSpec(name=name, uid=uid, spec=SyntheticDataJobSpec.model_validate(wire))


def a_model(url: str, *, concurrency: int = 4, **fields: Any) -> Row:
    """Return an entry of spec.models for the server at `url`."""
    return {
        "name": "generator",
        "external": {"url": url, "model": "fake-model"},
        "limits": {"concurrency": concurrency},
        **fields,
    }


def a_context(spec: RunSpec, storage: Storage | None = None) -> RunContext:
    """Return what a phase needs to run in this process."""
    root = Path(spec.spec.output.uri.removeprefix("file://"))
    return RunContext(
        spec,
        RunEnvironment(Mounts(), writer="test"),
        storage or LocalStorage(root),
        Progress(RunnerPhase.ALL),
        asyncio.Event(),
    )


def reply(request: CompletionRequest) -> str:
    """Answer as a pure function of the request: a list where one is wanted, else a sentence."""
    content = [request.messages, sorted(request.sampling.items())]
    key = hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:12]
    if request.response_format is not None:
        items = next(iter(request.response_format.schema["properties"].values()))
        count = items.get("minItems", 2)
        name = next(iter(request.response_format.schema["properties"]))
        return json.dumps({name: [f"What is {key} number {n}?" for n in range(count)]})
    return f"It is {key}."


def read_manifest(output: Path) -> RunManifest:
    """Return the manifest of a finished run."""
    return msgspec.json.decode((output / "manifest.json").read_bytes(), type=RunManifest)


def read_rows(output: Path) -> list[Row]:
    """Return the rows that the manifest names, sorted by id, having checked every file's hash."""
    rows: list[Row] = []
    for file in read_manifest(output).data:
        rows += _read_part(output / file.path, file.sha256, file.rows)
    return sorted(rows, key=lambda row: str(row["id"]))


def read_errors(output: Path) -> list[Row]:
    """Return the failed records that the manifest names, sorted by id."""
    rows: list[Row] = []
    for file in read_manifest(output).errors:
        rows += _read_part(output / file.path, file.sha256, file.rows)
    return sorted(rows, key=lambda row: str(row["id"]))


def read_committed(folder: Path) -> list[Row]:
    """Return the rows of all parts in a folder, finished or not."""
    return [row for path in sorted(folder.glob("part-*")) for row in _read_part(path)]


def _read_part(path: Path, sha256: str | None = None, count: int | None = None) -> list[Row]:
    data = path.read_bytes()
    assert sha256 is None or hashlib.sha256(data).hexdigest() == sha256, path
    if path.suffix == ".parquet":
        rows: list[Row] = pq.read_table(path).to_pylist()
    else:
        rows = [json.loads(line) for line in data.splitlines()]
    assert count is None or len(rows) == count, path
    return rows


def digest(rows: list[Row]) -> str:
    """Return the hash of rows, whatever their order.

    How often a completion had to be asked for is left out: it depends on the weather.
    """
    plain = sorted(json.dumps(_without_attempts(row), sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(plain).encode()).hexdigest()


def _without_attempts(row: Row) -> Row:
    calls = [{k: v for k, v in call.items() if k != "attempts"} for call in row["provenance"]]
    return {**row, "provenance": calls}
