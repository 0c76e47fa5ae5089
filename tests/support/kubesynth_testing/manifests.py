"""Two jobs that the API server accepts, one small and one with every field, and ways to edit them.

edited(SMALL, {"spec.models[0].external.url": "ftp://x", "spec.seed": REMOVE})
"""

from __future__ import annotations

import copy
import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kubesynth_api.labels import API_VERSION

Manifest = dict[str, Any]


class _Removed(enum.Enum):
    REMOVE = enum.auto()


REMOVE: Final = _Removed.REMOVE

_PART = re.compile(r"([^.\[\]]+)|\[(\d+)\]")

SMALL: Manifest = {
    "apiVersion": API_VERSION,
    "kind": "SyntheticDataJob",
    "metadata": {"name": "small"},
    "spec": {
        "models": [
            {"name": "generator", "external": {"url": "http://llm/v1", "model": "m"}},
        ],
        "input": {"uri": "pvc://corpus/docs"},
        "pipeline": [{"closedQA": {}}, {"answer": {}}],
        "output": {"uri": "pvc://datasets/small"},
    },
}

_KEY = {"name": "object", "key": "key"}
_SAMPLING = {
    "temperature": 0.7,
    "topP": 0.9,
    "topK": 40,
    "minP": 0.1,
    "maxTokens": 512,
    "maxCompletionTokens": 600,
    "seed": 3,
    "stop": ["\n\n"],
    "presencePenalty": 0.5,
    "frequencyPenalty": 0.5,
    "repetitionPenalty": 1.1,
    "logitBias": {"50256": -100},
    "reasoningEffort": "low",
    "choices": 1,
    "logprobs": True,
    "topLogprobs": 2,
}
_STORAGE = {
    "endpoint": "https://store.example.com",
    "region": "eu-central-1",
    "pathStyle": True,
    "caBundle": {"configMapKeyRef": _KEY},
    "credentials": {"secretRef": {"name": "store"}},
}
_SERVER: Manifest = {
    "classRef": {"name": "vllm", "kind": "ClusterModelServerClass"},
    "model": "meta-llama/Llama-3.1-8B",
    "revision": "main",
    "image": "registry.example.com/vllm:1",
    "gpus": 1,
    "replicas": 2,
    "args": ["--max-model-len", "8192"],
    "env": [{"name": "A", "value": "1"}],
    "resources": {"requests": {"cpu": 4}},
    "nodeSelector": {"gpu": "l4"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "token": {"secretKeyRef": _KEY},
    "cache": {"shared": {"size": "200Gi", "storageClassName": "nfs", "retention": "Retain"}},
    "triton": {"chatTemplate": {"builtIn": "Llama3"}},
    "startupTimeoutSeconds": 600,
}
_MODELS = [
    {
        "name": "generator",
        "external": {
            "url": "https://inference.example.com/v1",
            "model": "llama",
            "apiKey": {"secretKeyRef": _KEY},
            "caBundle": {"secretKeyRef": _KEY},
            "headers": {"X-Team": "data"},
            "extraBody": {"top_a": 0.1, "nested": {"a": [1, 2]}},
        },
        "sampling": _SAMPLING,
        "limits": {"concurrency": 64, "requestsPerMinute": 100, "tokensPerMinute": 100000},
        "requestTimeoutSeconds": 60,
        "maxAttempts": 3,
    },
    {"name": "tiny", "embedded": {"contextTokens": 1024, "slots": 2}},
    {
        "name": "own",
        "server": _SERVER,
    },
    {"name": "shared", "serverRef": {"name": "llama", "namespace": "models"}},
]
_SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}
_PIPELINE = [
    {
        "id": "ask",
        "when": "text",
        "closedQA": {
            "model": "generator",
            "sampling": {"temperature": 1.0},
            "questions": 3,
            "onShortList": "Fail",
            "prompts": {
                "system": {"inline": "Be brief."},
                "user": {"configMapKeyRef": _KEY},
            },
        },
    },
    {
        "answer": {
            "model": "tiny",
            "sampling": {"maxTokens": 100},
            "questionColumn": "question",
            "answerColumn": "reply",
            "useDocument": False,
            "prompts": {"user": {"inline": "{{ question }}"}},
        },
    },
    {
        "prompt": {
            "system": {"inline": "You list."},
            "user": {"inline": "List what {{ reply }} names."},
            "examples": [{"user": "Adam and Eve", "assistant": "1. Adam\n2. Eve"}],
            "output": {"type": "List", "column": "item", "count": 4},
        },
    },
    {
        "prompt": {
            "user": {"inline": "Entitle {{ item }}."},
            "output": {"type": "JSON", "jsonSchema": _SCHEMA},
        },
    },
]
_RUNNER = {
    "image": "registry.example.com/kubesynth:1",
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "registry"}],
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 2}},
    "env": [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": _KEY}},
        {"name": "C", "valueFrom": {"configMapKeyRef": _KEY}},
    ],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [
        {
            "key": "spot",
            "operator": "Equal",
            "value": "true",
            "effect": "NoExecute",
            "tolerationSeconds": 60,
        }
    ],
    "affinity": {"nodeAffinity": {"a": {"b": 1}}},
    "priorityClassName": "low",
    "runtimeClassName": "gvisor",
    "serviceAccountName": "runner",
    "podSecurityContext": {
        "runAsUser": 1001,
        "runAsGroup": 1001,
        "fsGroup": 2000,
        "fsGroupChangePolicy": "Always",
        "supplementalGroups": [0, 5000],
    },
    "labels": {"team": "data"},
    "annotations": {"example.com/note": "Any text."},
}
FULL: Manifest = {
    "apiVersion": API_VERSION,
    "kind": "SyntheticDataJob",
    "metadata": {"name": "full"},
    "spec": {
        "models": _MODELS,
        "input": {
            "uri": "pvc://corpus/docs/*.jsonl",
            "format": "JSONL",
            "textColumn": "body",
            "idColumn": "key",
            "columns": {"title": "headline"},
            "limit": 1000,
            "sample": {"fraction": 0.5},
            "storage": _STORAGE,
        },
        "pipeline": _PIPELINE,
        "tokenizer": {"uri": "pvc://models/llama/tokenizer.json"},
        "output": {
            "uri": "pvc://datasets/full",
            "format": "JSONL",
            "rowsPerPart": 1000,
            "ifExists": "Resume",
            "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
            "exports": ["messages"],
            "storage": _STORAGE,
        },
        "target": {"acceptedRecords": 100},
        "budget": {
            "tokens": 1000,
            "usd": 5.0,
            "prices": {"generator": {"promptPerMillion": 1.0, "completionPerMillion": 2.0}},
        },
        "shards": {"count": 4, "parallelism": 2},
        "runner": _RUNNER,
        "failurePolicy": {
            "backoffLimitPerShard": 2,
            "maxFailedShards": 1,
            "maxFailedRecordsPercent": 10,
        },
        "deadlines": {"pendingSeconds": 60, "modelReadySeconds": 600, "activeSeconds": 6000},
        "cleanup": {"ttlSecondsAfterFinished": 3600},
        "seed": 7,
        "execution": "Batch",
        "retryFailed": {"fromOutput": "pvc://datasets/before"},
        "managedBy": "example.com/other",
        "suspend": True,
    },
}


def parts_of(path: str) -> list[str | int]:
    """Return the steps of a path such as `spec.models[0].name`."""
    return [int(index) if index else name for name, index in _PART.findall(path)]


def edited(manifest: Manifest, edits: Mapping[str, object]) -> Manifest:
    """Return a copy in which each path has its value, or is gone for REMOVE.

    A list grows by one where its next index is set.
    """
    result = copy.deepcopy(manifest)
    for path, value in edits.items():
        *parents, last = parts_of(path)
        node: Any = result
        for part in parents:
            node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
        if value is REMOVE:
            del node[last]
        elif isinstance(node, list) and last == len(node):
            node.append(value)
        else:
            node[last] = value
    return result


def field_paths(node: object, path: str = "") -> Iterator[str]:
    """Yield the path of every field of a manifest, parents first."""
    if isinstance(node, dict):
        for name, child in node.items():
            child_path = f"{path}.{name}" if path else str(name)
            yield child_path
            yield from field_paths(child, child_path)
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from field_paths(child, f"{path}[{index}]")
