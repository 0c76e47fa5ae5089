"""What an installation says about the pods of all jobs, where a job says nothing itself. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from kubesynth_api import field_paths
from kubesynth_api.v1alpha1.runner_pods import RunnerPods
from kubesynth_api.validation import broken_rules, duplicates

# As the chart's values are called.
_PATH = "runner"


def parse(text: str) -> RunnerPods:
    """Read a JSON object with the fields of `spec.runner`.

    Raises:
        ValueError: it cannot be understood; the message names each field, as `runner.env[0].name`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"must be a JSON object with the fields of spec.runner: {exc}") from exc
    try:
        pods = RunnerPods.from_wire(value)
    except ValidationError as exc:
        raise ValueError("; ".join(_complaints(exc))) from exc
    findings = [
        *broken_rules(pods, _PATH),
        *duplicates(f"{_PATH}.env", (variable.name for variable in pods.env)),
    ]
    if findings:
        raise ValueError("; ".join(str(finding) for finding in findings))
    return pods


def completed(pods: RunnerPods, defaults: RunnerPods) -> RunnerPods:
    """Return what a job says about its pods, and the defaults where it says nothing.

    A field that the job sets wins as a whole, even an empty one: `tolerations: []` asks for none.
    Variables are added up by their names, labels and annotations by their keys.
    """
    said: dict[str, Any] = {
        name: value for name in pods.model_fields_set if (value := getattr(pods, name)) is not None
    }
    env = {variable.name: variable for variable in (*defaults.env, *pods.env)}
    said |= {
        "env": tuple(env.values()),
        "labels": {**defaults.labels, **pods.labels},
        "annotations": {**defaults.annotations, **pods.annotations},
    }
    return defaults.model_copy(update=said)


def _complaints(exc: ValidationError) -> Iterator[str]:
    for error in exc.errors(include_url=False, include_input=False):
        place = field_paths.of_location(error["loc"], _PATH)
        unknown = error["type"] == "extra_forbidden"
        yield f"{place}: {'there is no such field' if unknown else error['msg']}"
