"""Changes of a job that have to be refused once it was applied, and changes that have not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kubesynth_testing.manifests import FULL, REMOVE, SMALL, Manifest, edited

_MODEL = "spec.models[0]"
_EXTERNAL = f"{_MODEL}.external"
_SCHEMA = "spec.pipeline[3].prompt.output.jsonSchema"
_WITH_HEADERS = edited(SMALL, {f"{_EXTERNAL}.headers": {"a": "b"}})
_WITH_BODY = edited(SMALL, {f"{_EXTERNAL}.extraBody": {"a": "b"}})
_WITH_TOKEN_BUDGET = edited(SMALL, {"spec.budget": {"tokens": 1}})
_PRICES = {"generator": {"promptPerMillion": 1, "completionPerMillion": 1}}
_WITH_PRICES = edited(SMALL, {"spec.budget": {"tokens": 1, "prices": _PRICES}})
_IN_BATCHES = edited(SMALL, {"spec.execution": "Batch"})
_WITH_IMAGE = edited(SMALL, {"spec.runner": {"image": "a"}})
_WITH_AFFINITY = edited(SMALL, {"spec.runner": {"affinity": {"a": {}}}})
_MODELS_FIXED = "models is immutable: none may be added, removed, renamed or moved"


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """A change of the job `base`, and the field and words of its refusal, if there is one."""

    name: str
    base: Manifest
    edits: Mapping[str, object]
    field: str = ""
    message: str = ""

    @property
    def manifest(self) -> Manifest:
        """The whole job after the change."""
        return edited(self.base, self.edits)


def _fixed(name: str, base: Manifest, field: str, edits: Mapping[str, object]) -> Update:
    """Return a change of a field that may not change at all."""
    return Update(name, base, edits, field, f"{field.rpartition('.')[2]} is immutable")


def _models(name: str, base: Manifest, edits: Mapping[str, object]) -> Update:
    return Update(name, base, edits, "spec.models", _MODELS_FIXED)


def _prices(name: str, manifest: dict[str, Any], edits: Mapping[str, object]) -> Update:
    message = "prices are immutable, and cannot be added later"
    return Update(name, manifest, edits, "spec.budget", message)


def _budget(name: str, edits: Mapping[str, object]) -> Update:
    return Update(name, FULL, edits, "spec.budget", "a budget may only be raised")


def _money(name: str, base: Manifest, edits: Mapping[str, object]) -> Update:
    message = "usd needs a price of every model, and prices cannot be added later"
    return Update(name, base, edits, "spec.budget.usd", message)


INPUT_AND_OUTPUT = (
    _fixed("input-changed", FULL, "spec.input", {"spec.input.uri": "pvc://corpus/more"}),
    _fixed("input-field-added", SMALL, "spec.input", {"spec.input.limit": 5}),
    _fixed("input-field-removed", FULL, "spec.input", {"spec.input.limit": REMOVE}),
    _fixed("input-default-replaced", SMALL, "spec.input", {"spec.input.format": "Text"}),
    _fixed("input-column-added", FULL, "spec.input", {"spec.input.columns.more": "more"}),
    _fixed("tokenizer-added", SMALL, "spec.tokenizer", {"spec.tokenizer.uri": "/t.json"}),
    _fixed("tokenizer-changed", FULL, "spec.tokenizer", {"spec.tokenizer.uri": "/t.json"}),
    _fixed("output-changed", FULL, "spec.output", {"spec.output.uri": "pvc://datasets/other"}),
    _fixed("output-field-added", SMALL, "spec.output", {"spec.output.exports": ["messages"]}),
    _fixed("output-field-removed", FULL, "spec.output", {"spec.output.split": REMOVE}),
)

PIPELINE = tuple(
    _fixed(name, base, "spec.pipeline", edits)
    for name, base, edits in (
        ("stage-changed", FULL, {"spec.pipeline[0].closedQA.questions": 4}),
        ("stage-added", FULL, {"spec.pipeline[4]": {"answer": {}}}),
        ("stage-removed", FULL, {"spec.pipeline[3]": REMOVE}),
        ("stages-swapped", SMALL, {"spec.pipeline": [{"answer": {}}, {"closedQA": {}}]}),
        ("stage-replaced", SMALL, {"spec.pipeline[1]": {"closedQA": {}}}),
        ("stage-field-added", SMALL, {"spec.pipeline[0].id": "a"}),
        ("stage-field-removed", FULL, {"spec.pipeline[0].when": REMOVE}),
        ("schema-changed", FULL, {f"{_SCHEMA}.required": []}),
        ("schema-changed-below", FULL, {f"{_SCHEMA}.properties.title.type": "integer"}),
        ("schema-key-added", FULL, {f"{_SCHEMA}.title": "A title"}),
        (
            "schema-key-renamed",
            FULL,
            {f"{_SCHEMA}.additionalProperties": REMOVE, f"{_SCHEMA}.unevaluatedProperties": False},
        ),
    )
)

MODELS = (
    _models("model-renamed", FULL, {f"{_MODEL}.name": "other"}),
    _models("model-added", SMALL, {"spec.models[1]": {"name": "new", "embedded": {}}}),
    _models("model-removed", FULL, {"spec.models[3]": REMOVE}),
    _models("models-moved", FULL, {"spec.models": FULL["spec"]["models"][::-1]}),
    _fixed("endpoint-changed", FULL, _EXTERNAL, {f"{_EXTERNAL}.url": "http://other/v1"}),
    _fixed("endpoint-key-added", SMALL, _EXTERNAL, {f"{_EXTERNAL}.headers": {"a": "b"}}),
    _fixed("endpoint-key-removed", FULL, _EXTERNAL, {f"{_EXTERNAL}.apiKey": REMOVE}),
    _fixed("body-changed-below", FULL, _EXTERNAL, {f"{_EXTERNAL}.extraBody.nested.a": [2, 1]}),
    _fixed("body-key-renamed", _WITH_BODY, _EXTERNAL, {f"{_EXTERNAL}.extraBody": {"b": "b"}}),
    _fixed(
        "body-for-headers",
        _WITH_HEADERS,
        _EXTERNAL,
        {f"{_EXTERNAL}.headers": REMOVE, f"{_EXTERNAL}.extraBody": {"a": "b"}},
    ),
    _fixed(
        "headers-for-body",
        _WITH_BODY,
        _EXTERNAL,
        {f"{_EXTERNAL}.extraBody": REMOVE, f"{_EXTERNAL}.headers": {"a": "b"}},
    ),
    _fixed("endpoint-dropped", SMALL, _EXTERNAL, {_EXTERNAL: REMOVE, f"{_MODEL}.embedded": {}}),
    _fixed(
        "embedded-added", SMALL, f"{_MODEL}.embedded", {_EXTERNAL: REMOVE, f"{_MODEL}.embedded": {}}
    ),
    _fixed(
        "embedded-changed", FULL, "spec.models[1].embedded", {"spec.models[1].embedded.slots": 9}
    ),
    _fixed("server-changed", FULL, "spec.models[2].server", {"spec.models[2].server.gpus": 2}),
    _fixed(
        "server-reference-changed",
        FULL,
        "spec.models[3].serverRef",
        {"spec.models[3].serverRef.name": "other"},
    ),
    _fixed("sampling-changed", FULL, f"{_MODEL}.sampling", {f"{_MODEL}.sampling.topP": 0.5}),
    _fixed("sampling-added", SMALL, f"{_MODEL}.sampling", {f"{_MODEL}.sampling": {"topP": 0.5}}),
    _fixed("sampling-removed", FULL, f"{_MODEL}.sampling", {f"{_MODEL}.sampling": REMOVE}),
    _fixed(
        "timeout-changed",
        FULL,
        f"{_MODEL}.requestTimeoutSeconds",
        {f"{_MODEL}.requestTimeoutSeconds": 61},
    ),
    _fixed("attempts-changed", FULL, f"{_MODEL}.maxAttempts", {f"{_MODEL}.maxAttempts": 4}),
)

THE_REST = (
    _fixed("target-changed", FULL, "spec.target", {"spec.target.acceptedRecords": 101}),
    _fixed("target-added", SMALL, "spec.target", {"spec.target": {"acceptedRecords": 1}}),
    _fixed("target-removed", FULL, "spec.target", {"spec.target": REMOVE}),
    _fixed("runner-changed", FULL, "spec.runner", {"spec.runner.image": "other"}),
    _fixed("runner-added", SMALL, "spec.runner", {"spec.runner": {"image": "other"}}),
    _fixed("runner-removed", FULL, "spec.runner", {"spec.runner": REMOVE}),
    _fixed("runner-field-added", _WITH_IMAGE, "spec.runner", {"spec.runner.labels": {"a": "b"}}),
    _fixed("runner-field-removed", FULL, "spec.runner", {"spec.runner.env": REMOVE}),
    _fixed(
        "affinity-for-image", _WITH_IMAGE, "spec.runner", {"spec.runner": {"affinity": {"a": {}}}}
    ),
    _fixed("image-for-affinity", _WITH_AFFINITY, "spec.runner", {"spec.runner": {"image": "a"}}),
    _fixed(
        "affinity-key-renamed",
        _WITH_AFFINITY,
        "spec.runner",
        {"spec.runner.affinity": {"b": {}}},
    ),
    _fixed(
        "failure-policy-changed",
        FULL,
        "spec.failurePolicy",
        {"spec.failurePolicy.backoffLimitPerShard": 9},
    ),
    _fixed("failure-policy-removed", FULL, "spec.failurePolicy", {"spec.failurePolicy": REMOVE}),
    _fixed(
        "failure-policy-added",
        SMALL,
        "spec.failurePolicy",
        {"spec.failurePolicy": {"maxFailedRecordsPercent": 50}},
    ),
    _fixed("seed-changed", FULL, "spec.seed", {"spec.seed": 8}),
    _fixed("seed-added", SMALL, "spec.seed", {"spec.seed": 8}),
    _fixed("seed-removed", FULL, "spec.seed", {"spec.seed": REMOVE}),
    _fixed("execution-changed", FULL, "spec.execution", {"spec.execution": "Online"}),
    _fixed("execution-removed", FULL, "spec.execution", {"spec.execution": REMOVE}),
    _fixed("retry-changed", FULL, "spec.retryFailed", {"spec.retryFailed.fromOutput": "/other"}),
    _fixed("retry-added", SMALL, "spec.retryFailed", {"spec.retryFailed": {"fromOutput": "/a"}}),
    _fixed("retry-removed", FULL, "spec.retryFailed", {"spec.retryFailed": REMOVE}),
    _fixed("manager-changed", SMALL, "spec.managedBy", {"spec.managedBy": "example.com/other"}),
    _fixed("manager-removed", FULL, "spec.managedBy", {"spec.managedBy": REMOVE}),
    Update(
        "shards-changed", SMALL, {"spec.shards": {"count": 2}}, "spec.shards.count", "is immutable"
    ),
    Update("shards-removed", FULL, {"spec.shards": REMOVE}, "spec.shards.count", "is immutable"),
    _budget("token-budget-lowered", {"spec.budget.tokens": 999}),
    _budget("token-budget-removed", {"spec.budget.tokens": REMOVE}),
    _budget("money-budget-lowered", {"spec.budget.usd": 4.99}),
    _budget("money-budget-removed", {"spec.budget.usd": REMOVE}),
    _budget("budget-removed", {"spec.budget": REMOVE}),
    _money("money-budget-added", SMALL, {"spec.budget": {"usd": 5}}),
    _money("money-added-to-budget", _WITH_TOKEN_BUDGET, {"spec.budget.usd": 5}),
    Update(
        "budget-of-batches-added",
        _IN_BATCHES,
        {"spec.budget": {"tokens": 1}},
        "spec.budget",
        "a budget cannot be kept with execution: Batch",
    ),
    _prices("prices-changed", FULL, {"spec.budget.prices.generator.promptPerMillion": 2}),
    _prices("prices-removed", FULL, {"spec.budget.prices": REMOVE}),
    _prices(
        "prices-added",
        SMALL,
        {"spec.budget": {"tokens": 1, "prices": _PRICES}},
    ),
)

BAD_UPDATES: tuple[Update, ...] = (*INPUT_AND_OUTPUT, *PIPELINE, *MODELS, *THE_REST)

GOOD_UPDATES: tuple[Update, ...] = (
    Update("suspended", SMALL, {"spec.suspend": True}),
    Update("resumed", FULL, {"spec.suspend": False}),
    Update("parallelism-changed", FULL, {"spec.shards.parallelism": 4}),
    Update("parallelism-added", SMALL, {"spec.shards": {"parallelism": 1}}),
    Update("parallelism-removed", FULL, {"spec.shards.parallelism": REMOVE}),
    Update("limits-changed", FULL, {f"{_MODEL}.limits.concurrency": 4}),
    Update("limits-added", SMALL, {f"{_MODEL}.limits": {"requestsPerMinute": 5}}),
    Update("limits-removed", FULL, {f"{_MODEL}.limits": REMOVE}),
    Update("budget-raised", FULL, {"spec.budget.tokens": 1001, "spec.budget.usd": 5.01}),
    Update("budget-added", SMALL, {"spec.budget": {"tokens": 1}}),
    Update("money-added-to-prices", _WITH_PRICES, {"spec.budget.usd": 5}),
    Update("deadlines-changed", FULL, {"spec.deadlines.activeSeconds": REMOVE}),
    Update("deadlines-added", SMALL, {"spec.deadlines": {"pendingSeconds": 5}}),
    Update("cleanup-added", SMALL, {"spec.cleanup": {"ttlSecondsAfterFinished": 0}}),
    Update("cleanup-removed", FULL, {"spec.cleanup": REMOVE}),
    Update("labelled", FULL, {"metadata.labels": {"a": "b"}}),
)
