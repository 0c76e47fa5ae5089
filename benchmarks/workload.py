"""The work: documents to rewrite, the same for every client."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.endpoint_process import MODEL
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.v1alpha1 import pipeline as stages

PROMPT = "Rewrite the following document in clear and simple English.\n\n"
MAX_TOKENS = 400
SOURCE_KINDS = frozenset(stages.SOURCE_KINDS)
DOCUMENT_WORDS = 150
# Of the test harness: NeMo Deploy's tensors, an answer that is a pure function of the prompt.
TRITON_MODEL = "pure"
# Of the job that every run of the engine belongs to.
UID = "00000000-0000-4000-8000-000000000001"
_POOL_WORDS = 5000

# Where lengths are held equal, every answer of a real server ends at its limit.
_REWRITTEN = {"column": "rewritten", "onCutOff": "Keep"}
REWRITE: tuple[Mapping[str, Any], ...] = (
    {"prompt": {"user": {"inline": PROMPT + "{{ text }}"}, "output": _REWRITTEN}},
)
# One document makes five questions, each of which is answered: six calls.
QUESTIONS_AND_ANSWERS: tuple[Mapping[str, Any], ...] = (
    {"closedQA": {"questions": 5}},
    {"answer": {}},
)
CALLS_PER_DOCUMENT = 6
# A document's quality, 0 to 19: its number is the second word of its text.
_QUALITY = "(text.split('.')[0].split(' ')[1] | int) % 20"
_KEEP = {"output": "Text", "onNothing": "Keep"}
ROUTED: tuple[Mapping[str, Any], ...] = (
    {"when": f"{_QUALITY} <= 11", "wikipediaRewrite": _KEEP},
    {"when": f"{_QUALITY} > 11", "diverseQA": _KEEP},
    {"when": f"{_QUALITY} > 11", "distill": _KEEP},
    {"when": f"{_QUALITY} > 11", "extractKnowledge": _KEEP},
    {"when": f"{_QUALITY} > 11", "knowledgeList": _KEEP},
)


def write_documents(path: Path, count: int, words: int = DOCUMENT_WORDS) -> None:
    """Write JSON lines with `id` and `text`. No two texts are equal; equal counts, equal files."""
    source = random.Random(11)
    letters = "abcdefghiklmnoprstuvw"
    pool = [
        "".join(source.choices(letters, k=source.randint(2, 8))) for _ in range(_POOL_WORDS + words)
    ]
    with path.open("w") as file:
        for number in range(count):
            start = (number * 7919) % _POOL_WORDS
            text = " ".join(pool[start : start + words])
            file.write(f'{{"id": "{number}", "text": "Document {number}. {text}"}}\n')


@dataclasses.dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run of the engine does, and how."""

    concurrency: int
    pipeline: tuple[Mapping[str, Any], ...] = REWRITE
    rows_per_part: int | None = None
    protocol: str = "OpenAI"
    # Instead of a folder: a URI in an S3 store, and the URL of the store.
    bucket: str | None = None
    endpoint: str | None = None
    adaptive: str = "Refusals"
    model: str = MODEL
    max_tokens: int = MAX_TOKENS


def run_spec(api_url: str, documents: Path, output: Path, options: RunOptions) -> RunSpec:
    """Return the specification of a run of the engine."""
    wire_output: dict[str, Any] = {"uri": f"file://{output}"}
    if options.bucket is not None:
        storage = {"endpoint": options.endpoint, "pathStyle": True}
        wire_output = {"uri": options.bucket, "storage": storage}
    if options.rows_per_part is not None:
        wire_output["rowsPerPart"] = options.rows_per_part
    starts_from_nothing = not SOURCE_KINDS.isdisjoint(options.pipeline[0])
    return RunSpec.model_validate(
        {
            "name": "benchmark",
            "uid": UID,
            "spec": {
                "models": [
                    {
                        "name": "writer",
                        "external": _external(api_url, options),
                        "limits": {
                            "concurrency": options.concurrency,
                            "adaptive": options.adaptive,
                        },
                        "sampling": {"maxTokens": options.max_tokens},
                    }
                ],
                **({} if starts_from_nothing else {"input": {"uri": f"file://{documents}"}}),
                "pipeline": [dict(stage) for stage in options.pipeline],
                "output": wire_output,
            },
        }
    )


def _external(api_url: str, options: RunOptions) -> dict[str, Any]:
    if options.protocol == "OpenAI":
        return {"url": api_url, "model": options.model}
    template = {"builtIn": "PassThrough"}
    return {
        "protocol": options.protocol,
        "url": api_url,
        "model": TRITON_MODEL,
        "triton": {"chatTemplate": template},
    }
