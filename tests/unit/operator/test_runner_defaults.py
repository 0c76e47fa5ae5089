"""What an installation says about the pods of all jobs, and what a job says against it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator import runner_defaults
from kubesynth_operator.resources import naming, run_config_map, runner_job
from kubesynth_operator.settings import SettingsError, from_environment
from kubesynth_testing.builders import SETTINGS, a_job

DEFAULTS: dict[str, Any] = {
    "imagePullPolicy": "Always",
    "imagePullSecrets": [{"name": "regcred"}],
    "env": [
        {"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"},
        {"name": "NO_PROXY", "value": ".svc"},
    ],
    "nodeSelector": {"pool": "batch"},
    "tolerations": [{"key": "batch", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "low",
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}},
    "labels": {"cost": "shared"},
    "annotations": {"sidecar.istio.io/inject": "false"},
}
INSTALLED = dataclasses.replace(
    SETTINGS, runner_defaults=runner_defaults.parse(json.dumps(DEFAULTS))
)
PHASES = (RunnerPhase.PLAN, RunnerPhase.GENERATE, RunnerPhase.FINALIZE, RunnerPhase.REPORT)


def template(
    runner: dict[str, Any] | None = None, phase: RunnerPhase = RunnerPhase.GENERATE
) -> dict[str, Any]:
    spec: dict[str, Any] = {} if runner is None else {"runner": runner}
    job = a_job(shards=3, **spec)
    manifest = runner_job.build(job, phase, INSTALLED, run_config_name="qa-run-0123456789")
    built: dict[str, Any] = manifest["spec"]["template"]
    return built


def variables(pod: dict[str, Any]) -> dict[str, Any]:
    env = pod["spec"]["containers"][0]["env"]
    names = [variable["name"] for variable in env]
    assert len(names) == len(set(names))
    return {variable["name"]: variable for variable in env}


@pytest.mark.parametrize("phase", PHASES)
def test_the_pods_of_every_phase_have_the_defaults(phase: RunnerPhase) -> None:
    built = template(phase=phase)
    pod = built["spec"]
    for field in (
        "imagePullSecrets",
        "nodeSelector",
        "tolerations",
        "affinity",
        "priorityClassName",
    ):
        assert pod[field] == DEFAULTS[field], field
    (container,) = pod["containers"]
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    assert container["image"] == SETTINGS.runner_image
    assert variables(built)["HTTPS_PROXY"]["value"] == "http://proxy.example:3128"
    assert built["metadata"]["labels"]["cost"] == "shared"
    assert built["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}


def test_a_field_of_the_job_takes_the_place_of_the_default() -> None:
    built = template(
        {
            "imagePullPolicy": "Never",
            "imagePullSecrets": [{"name": "mine"}],
            "nodeSelector": {"disk": "ssd"},
            "priorityClassName": "high",
            "resources": {"limits": {"memory": "8Gi"}},
        }
    )
    pod = built["spec"]
    assert pod["imagePullSecrets"] == [{"name": "mine"}]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert pod["priorityClassName"] == "high"
    assert pod["tolerations"] == DEFAULTS["tolerations"], "not said by the job"
    (container,) = pod["containers"]
    assert container["imagePullPolicy"] == "Never"
    assert container["resources"]["limits"] == {"memory": "8Gi"}
    assert not container["resources"].get("requests"), "resources are one field"


def test_an_empty_field_of_the_job_asks_for_nothing() -> None:
    pod = template({"tolerations": [], "nodeSelector": {}, "imagePullSecrets": [], "env": []})
    assert not {"tolerations", "nodeSelector", "imagePullSecrets"} & set(pod["spec"])
    assert "HTTPS_PROXY" in variables(pod), "variables are added up"


def test_variables_labels_and_annotations_are_added_up_by_name() -> None:
    built = template(
        {
            "env": [{"name": "NO_PROXY", "value": ".mine"}, {"name": "MODE", "value": "fast"}],
            "labels": {"cost": "team", "team": "data"},
            "annotations": {"note": "hello"},
        }
    )
    env = variables(built)
    assert env["NO_PROXY"]["value"] == ".mine"
    assert env["MODE"]["value"] == "fast"
    assert env["HTTPS_PROXY"]["value"] == "http://proxy.example:3128"
    assert built["metadata"]["labels"].items() >= {"cost": "team", "team": "data"}.items()
    assert set(built["metadata"]["annotations"]) == {"sidecar.istio.io/inject", "note"}


def test_the_run_does_not_depend_on_the_installation() -> None:
    job = a_job(shards=3)
    name, manifest = naming.run_config_name(job), run_config_map.build(job)
    template()
    assert (naming.run_config_name(job), run_config_map.build(job)) == (name, manifest)
    assert "regcred" not in json.dumps(manifest)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "must be a JSON object"),
        ("[]", "runner: Input should be an object"),
        ('{"nodeSelectors": {}}', r"runner\.nodeSelectors: there is no such field"),
        ('{"imagePullPolicy": "Sometimes"}', r"runner\.imagePullPolicy: "),
        ('{"imagePullSecrets": [{"name": "A_B"}]}', r"runner\.imagePullSecrets\[0\]\.name: "),
        ('{"env": [{"name": "KUBESYNTH_X"}]}', r"runner\.env\[0\]\.name: .*kubesynth's own"),
        ('{"env": [{"name": "A"}, {"name": "A"}]}', r"runner\.env: the name 'A' occurs 2 times"),
        (
            '{"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}',
            r"runner\.resources\.requests: no request may exceed",
        ),
        ('{"labels": {"kubesynth.io/phase": "x"}}', r"runner\.labels: "),
    ],
)
def test_what_is_wrong_is_named_as_in_the_values(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"^KUBESYNTH_RUNNER_DEFAULTS: {complaint}"):
        from_environment({"KUBESYNTH_RUNNER_IMAGE": "x", "KUBESYNTH_RUNNER_DEFAULTS": text})
