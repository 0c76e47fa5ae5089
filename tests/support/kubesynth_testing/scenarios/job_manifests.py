"""SyntheticDataJobs, and documents for them."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from kubesynth_api.labels import API_VERSION
from kubesynth_testing.scenarios.world import CLAIM, Manifest, config_map, json_lines

DOCUMENTS = "documents"
DOCUMENTS_KEY = "documents.jsonl"
DOCUMENTS_URI = f"configmap://{DOCUMENTS}/{DOCUMENTS_KEY}"

_PLACES = ("harbour", "mill", "orchard", "quarry", "library", "market", "station", "bridge")
_DEEDS = ("opened", "was rebuilt", "was sold", "closed for a year", "won a prize", "was painted")


@dataclasses.dataclass(frozen=True, slots=True)
class JobShape:
    """How large a job of the fake model is.

    Its calls are one for the questions of each document and one for the answer to each question.
    """

    shards: int = 1
    parallelism: int | None = None
    questions: int = 2
    concurrency: int = 4
    rows_per_part: int = 10


def documents(count: int) -> Manifest:
    """Return a ConfigMap with that many small documents, the same ones every time."""
    draw = random.Random(count)
    rows = []
    for number in range(count):
        place, deed = draw.choice(_PLACES), draw.choice(_DEEDS)
        year = draw.randrange(1800, 2000)
        rows.append({"text": f"The {place} number {number} of the town {deed} in {year}."})
    return config_map(DOCUMENTS, {DOCUMENTS_KEY: json_lines(rows)})


def closed_qa(name: str, url: str, shape: JobShape, *, model: str, **spec: Any) -> Manifest:
    """Return a job that asks and answers questions about `documents`; output is CLAIM/NAME.

    Args:
        name: The job's name.
        url: Base URL of the model's API.
        shape: How large it is.
        model: The model that is served there.
        spec: Fields of the spec that replace those above; `runner` and `output` are merged.
    """
    shards: dict[str, int] = {"count": shape.shards}
    if shape.parallelism is not None:
        shards["parallelism"] = shape.parallelism
    output = {"uri": f"pvc://{CLAIM}/{name}", "rowsPerPart": shape.rows_per_part}
    runner = {
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "SyntheticDataJob",
        "metadata": {"name": name},
        "spec": {
            "models": [
                {
                    "name": "generator",
                    "external": {"url": url, "model": model},
                    "limits": {"concurrency": shape.concurrency},
                }
            ],
            "input": {"uri": DOCUMENTS_URI},
            "pipeline": [{"closedQA": {"questions": shape.questions}}, {"answer": {}}],
            "shards": shards,
            "seed": 7,
            **spec,
            "output": output | spec.get("output", {}),
            "runner": runner | spec.get("runner", {}),
        },
    }
