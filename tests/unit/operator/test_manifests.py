"""The manifests of the children, against golden files.

A change of a manifest is a change of behaviour on every cluster: read the difference, then refresh
the files with `KUBESYNTH_WRITE_GOLDEN=1 pytest tests/unit/operator/test_manifests.py`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import yaml

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import SECRET_ROOT, RunnerPhase
from kubesynth_operator.observation import Job, Outcome
from kubesynth_operator.resources import naming, network_policy, run_config_map, runner_job
from kubesynth_operator.settings import OperatorSettings
from kubesynth_testing.builders import SETTINGS, UID, a_job
from kubesynth_testing.golden import GOLDEN

PARTIAL = Outcome(ConditionType.FAILED, Reason.SHARD_BACKOFF_EXCEEDED, "1 of 3 shards failed (1)")

FULL_SPEC: dict[str, Any] = {
    "models": [
        {
            "name": "big-judge",
            "external": {
                "url": "https://llm.example/v1",
                "model": "large",
                "apiKey": {"secretKeyRef": {"name": "llm", "key": "token"}},
                "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}},
            },
            "limits": {"concurrency": 8},
        },
        {
            "name": "writer",
            "external": {
                "url": "https://llm.example/v1",
                "model": "small",
                "caBundle": {"secretKeyRef": {"name": "private-ca", "key": "ca.crt"}},
            },
        },
    ],
    "input": {"uri": "configmap://documents/*.jsonl"},
    "pipeline": [
        {"prompt": {"user": {"configMapKeyRef": {"name": "prompts", "key": "ask.jinja"}}}}
    ],
    "output": {"uri": "pvc://datasets/deep/folder"},
    "failurePolicy": {"backoffLimitPerShard": 5, "maxFailedShards": 1},
    "runner": {
        "image": "registry.example/mine:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi"}},
        "env": [
            {"name": "MODE", "value": "fast"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "extra", "key": "t"}}},
        ],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "low",
        "runtimeClassName": "gvisor",
        "serviceAccountName": "uploader",
        "podSecurityContext": {"runAsUser": 1001, "supplementalGroups": [5000]},
        "labels": {"team": "data", "kubesynth.io/phase": "mine"},
        "annotations": {"note": "hello"},
    },
}


def full_job() -> Job:
    return a_job(shards=3, queue="team-a", **FULL_SPEC)


def runner(job: Job, slot: RunnerPhase, verdict: Outcome | None = None) -> dict[str, Any]:
    return runner_job.build(
        job, slot, SETTINGS, run_config_name="qa-run-0123456789", verdict=verdict
    )


def manifests() -> dict[str, dict[str, Any]]:
    small, full = a_job(shards=3), full_job()
    scraped = OperatorSettings(
        runner_image="r", operator_namespace="synth", metrics_namespaces=("monitoring",)
    )
    return {
        "one_shard": runner(a_job(), RunnerPhase.GENERATE),
        "plan": runner(small, RunnerPhase.PLAN),
        "generate": runner(small, RunnerPhase.GENERATE),
        "finalize": runner(small, RunnerPhase.FINALIZE, PARTIAL),
        "report": runner(small, RunnerPhase.REPORT),
        "generate_full": runner(full, RunnerPhase.GENERATE),
        "network_policy": network_policy.build(small, scraped),
    }


@pytest.mark.parametrize("name", list(manifests()))
def test_manifest_is_the_golden_one(name: str) -> None:
    path = GOLDEN / f"{name}.yaml"
    built = manifests()[name]
    if os.environ.get("KUBESYNTH_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(built, sort_keys=False, width=100))
    assert built == yaml.safe_load(path.read_text())


def test_the_run_configuration_is_immutable_and_says_whose_run_it_is() -> None:
    job = a_job(shards=3)
    manifest = run_config_map.build(job)
    assert manifest["immutable"] is True
    assert manifest["metadata"]["name"] == naming.run_config_name(job)
    run = RunSpec.model_validate_json(manifest["data"]["run.json"])
    assert (run.name, run.namespace, run.uid) == ("qa", "team", UID)
    assert run.spec == job.spec


def test_kubesynth_s_own_labels_win_over_the_user_s() -> None:
    template = runner(full_job(), RunnerPhase.GENERATE)["spec"]["template"]
    assert template["metadata"]["labels"]["kubesynth.io/phase"] == "generate"
    assert template["metadata"]["labels"]["team"] == "data"


def test_names_fit_at_the_limit() -> None:
    job = a_job(name="j" * 40, shards=10000)
    for phase in (RunnerPhase.PLAN, RunnerPhase.GENERATE, RunnerPhase.FINALIZE, RunnerPhase.REPORT):
        pod = f"{naming.job_name(job.key.name, phase)}-9999-abcde"
        assert len(pod) <= 63, f"{pod} is no host name"
    assert len(naming.run_config_name(job)) <= 253


def test_the_run_configuration_depends_on_what_the_run_is_and_on_nothing_that_may_change() -> None:
    name = naming.run_config_name(a_job(shards=3))
    assert name == naming.run_config_name(a_job(shards=3, suspend=True))
    assert name == naming.run_config_name(a_job(shards=3, deadlines={"activeSeconds": 5}))
    assert name != naming.run_config_name(a_job(shards=3, seed=1))
    assert name != naming.run_config_name(a_job(shards=4))


@pytest.mark.parametrize("field", ["input", "output"])
def test_credentials_of_stores_are_files_and_no_variables(field: str) -> None:
    storage = {"credentials": {"secretRef": {"name": "bucket"}}}
    spec: dict[str, Any] = {field: {"uri": "s3://datasets/qa", "storage": storage}}
    job = a_job(**spec)
    pod = runner(job, RunnerPhase.GENERATE)["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if "secret" in volume]
    assert volume["secret"] == {"secretName": "bucket", "defaultMode": 0o440}
    (container,) = pod["containers"]
    mount = {"name": volume["name"], "mountPath": f"{SECRET_ROOT}/bucket", "readOnly": True}
    assert mount in container["volumeMounts"]
    assert "envFrom" not in container
