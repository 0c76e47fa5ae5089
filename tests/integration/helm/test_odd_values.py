"""What an installation may be called, and values that would end the operator it installs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesynth_operator import runner_defaults
from kubesynth_testing import yaml_files
from kubesynth_testing.cluster.runners import Runner
from kubesynth_testing.cluster.shell import CommandError


@pytest.mark.parametrize("values", [["namespaced=true"], ["replicas=2"]])
def test_names_may_be_numbers(offline_helm: Runner, chart: Path, values: list[str]) -> None:
    flags = [f"--set={value}" for value in values]
    text = offline_helm("template", "123", chart, "--namespace=2024", *flags)
    for manifest in yaml_files.load_all(text):
        metadata = manifest["metadata"]
        assert isinstance(metadata["name"], str)
        assert metadata.get("namespace", "2024") == "2024", manifest["kind"]
        if manifest["kind"] == "CustomResourceDefinition":
            continue  # with fields of that name
        for labels in _labels(manifest):
            assert all(isinstance(value, str) for value in labels.values()), labels


def _labels(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("labels", "matchLabels"):
                yield inner
            yield from _labels(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _labels(inner)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("env", [{"name": "POD_NAME", "value": "x"}], id="own-variable"),
        pytest.param("env", [{"name": "KUBESYNTH_PHASE", "value": "x"}], id="own-prefix"),
        pytest.param("env", [{"name": "A"}, {"name": "A"}], id="variable-twice"),
        pytest.param(
            "env",
            [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
            id="two-values",
        ),
        pytest.param(
            "env",
            [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a/b", "key": "b"}}}],
            id="no-name-of-a-secret",
        ),
        pytest.param("labels", {"app.kubernetes.io/name": "x"}, id="own-label"),
        pytest.param("labels", {"kubesynth.io/phase": "x"}, id="own-domain"),
        pytest.param("labels", {"team": "a b"}, id="no-value-of-a-label"),
        pytest.param("labels", {"a/b/c": "x"}, id="no-key-of-a-label"),
        pytest.param("nodeSelector", {"disk": "-"}, id="no-value-of-a-selector"),
        pytest.param("annotations", {"a/b/c": "x"}, id="no-key-of-an-annotation"),
        pytest.param(
            "tolerations",
            [{"key": "a", "operator": "Exists", "value": "x"}],
            id="exists-with-value",
        ),
        pytest.param("tolerations", [{"effect": "NoSchedule"}], id="equal-without-a-key"),
        pytest.param("tolerations", [{"key": "a", "tolerationSeconds": 5}], id="seconds"),
        pytest.param("priorityClassName", "High Priority", id="no-name-of-a-class"),
    ],
)
def test_what_the_operator_would_end_at_is_refused_before_it_is_replaced(
    offline_helm: Runner, chart: Path, field: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"runner\.{field}"):
        runner_defaults.parse(json.dumps({field: value}))
    with pytest.raises(CommandError, match=field):
        offline_helm("template", "x", chart, f"--set-json=runner.{field}={json.dumps(value)}")


def test_what_it_takes_the_chart_takes(offline_helm: Runner, chart: Path) -> None:
    values = {
        "env": [
            {"name": "A", "value": "x"},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "a.b", "key": "c"}}},
        ],
        "labels": {"team": "a", "example.org/cost-centre": "", "app": "x"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "annotations": {"example.org/note": "any text, of any kind"},
        "tolerations": [
            {"operator": "Exists"},
            {"key": "a", "operator": "Exists", "value": ""},
            {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 5},
        ],
        "priorityClassName": "high",
    }
    for field, value in values.items():
        runner_defaults.parse(json.dumps({field: value}))
        offline_helm("template", "x", chart, f"--set-json=runner.{field}={json.dumps(value)}")
