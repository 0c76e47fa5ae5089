"""The pod of a runner: one container without privileges, without a token, with bounded resources.

Fulfils PodSecurity `restricted` by default. What the installation says about the pods of all jobs
is laid over it, and over that what the user may say (`spec.runner`); kubesynth's own labels and
variables cannot be replaced.
"""

from __future__ import annotations

from typing import Any

from kubesynth_api import labels, runner_contract
from kubesynth_api.runner_contract import CapShare, InitialShare, RunnerPhase
from kubesynth_api.shares import initial_share
from kubesynth_api.v1alpha1.runner_pods import EnvVar, RunnerPods
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_operator import runner_defaults, wire
from kubesynth_operator.observation import Job, Outcome
from kubesynth_operator.resources import naming, volumes
from kubesynth_operator.settings import OperatorSettings

_DEFAULT_RESOURCES = {
    "requests": {"cpu": "250m", "memory": "256Mi"},
    "limits": {"memory": "1Gi"},
}


def build(
    job: Job,
    phase: RunnerPhase,
    settings: OperatorSettings,
    *,
    run_config_name: str,
    verdict: Outcome | None = None,
    first_share: InitialShare | None = None,
) -> dict[str, Any]:
    """Return the pod template of one phase's Job. `verdict` is how the job will end after it.

    `first_share` is what the job's shards began with, if they are made again.

    Raises:
        ValueError: the spec was not understood.
    """
    spec = job.run_spec().spec
    pods = runner_defaults.completed(spec.runner, settings.runner_defaults)
    mounted = volumes.of_job(spec, run_config_name)
    env = [*_own_env(phase, settings), *_verdict_env(verdict)]
    if phase in (RunnerPhase.GENERATE, RunnerPhase.ALL):
        env += _lease_env(job, _share(spec, first_share))
    env += [*_key_env(spec), *_user_env(pods)]
    return {
        "metadata": {
            "labels": {**pods.labels, **naming.phase_labels(job, phase)},
            **({"annotations": dict(pods.annotations)} if pods.annotations else {}),
        },
        "spec": {
            **_placement(pods),
            "automountServiceAccountToken": False,
            "containers": [
                {
                    **_container(pods, settings),
                    "env": env,
                    "volumeMounts": [volume.mount for volume in mounted],
                }
            ],
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "securityContext": _security_context(pods, settings),
            "terminationGracePeriodSeconds": runner_contract.TERMINATION_GRACE_PERIOD_SECONDS,
            "volumes": [volume.definition for volume in mounted],
        },
    }


def _security_context(pods: RunnerPods, settings: OperatorSettings) -> dict[str, Any]:
    """Return the installation's security context, with the user and groups that the job names."""
    said = pods.pod_security_context
    wanted = said.to_wire() if said is not None else {}
    return {
        **settings.runner_security.pod,
        **{field: value for field, value in wanted.items() if value != []},
    }


def _container(pods: RunnerPods, settings: OperatorSettings) -> dict[str, Any]:
    """Return what is the same for the containers of all phases."""
    return {
        "name": labels.RUNNER_CONTAINER,
        "image": pods.image or settings.runner_image,
        "imagePullPolicy": pods.image_pull_policy or "IfNotPresent",
        "command": ["kubesynth-runner"],
        "ports": [
            {
                "name": runner_contract.HTTP_PORT_NAME,
                "containerPort": runner_contract.HTTP_PORT,
                "protocol": "TCP",
            }
        ],
        "resources": pods.resources.to_wire() if pods.resources else _DEFAULT_RESOURCES,
        "securityContext": dict(settings.runner_security.container),
        "terminationMessagePath": runner_contract.TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _own_env(phase: RunnerPhase, settings: OperatorSettings) -> list[dict[str, Any]]:
    def field(name: str, path: str) -> dict[str, Any]:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}

    return [
        {"name": runner_contract.ENV_PHASE, "value": phase.value},
        {"name": runner_contract.ENV_RUN_SPEC, "value": runner_contract.RUN_SPEC_PATH},
        field(runner_contract.ENV_POD_NAME, "metadata.name"),
        field(runner_contract.ENV_POD_UID, "metadata.uid"),
        {"name": runner_contract.ENV_LOG_LEVEL, "value": settings.log_level},
        {
            "name": runner_contract.ENV_TERMINATION_MESSAGE_PATH,
            "value": runner_contract.TERMINATION_MESSAGE_PATH,
        },
        # Libraries that look for a home find one that can be written.
        {"name": "HOME", "value": "/tmp"},
    ]


def _verdict_env(verdict: Outcome | None) -> list[dict[str, Any]]:
    env: list[dict[str, Any]] = []
    if verdict is not None and verdict.partial:
        env.append({"name": runner_contract.ENV_PARTIAL, "value": "true"})
    if verdict is not None and verdict.early:
        env.append({"name": runner_contract.ENV_OUTCOME, "value": verdict.reason.value})
    return env


def _share(spec: SyntheticDataJobSpec, first: InitialShare | None) -> InitialShare:
    """Return what pods begin with.

    Rates are the pods', and these are new. Caps are the shards': what some of them still hold and
    what the others begin with add up to the whole only if it is divided as it was at first.
    """
    share = initial_share(spec)
    if first is None:
        return share
    caps = {**share.caps.model_dump(), **first.caps.model_dump(exclude_none=True)}
    return share.model_copy(update={"parallelism": first.parallelism, "caps": CapShare(**caps)})


def _lease_env(job: Job, share: InitialShare) -> list[dict[str, Any]]:
    """Return the share that pods begin with, and the token with which they are given others.

    A pod whose Secret is gone runs all the same: it keeps what it begins with.
    """
    secret = {
        "name": naming.lease_secret_name(job.key.name),
        "key": runner_contract.LEASE_TOKEN_KEY,
        "optional": True,
    }
    return [
        {"name": runner_contract.ENV_SHARE, "value": wire.share_text(share)},
        {"name": runner_contract.ENV_LEASE_TOKEN, "valueFrom": {"secretKeyRef": secret}},
    ]


def _key_env(spec: SyntheticDataJobSpec) -> list[dict[str, Any]]:
    env: list[dict[str, Any]] = []
    for model in spec.models:
        if model.external is None or model.external.api_key is None:
            continue
        selector = model.external.api_key.secret_key_ref
        env.append(
            {
                "name": runner_contract.model_api_key_env(model.name),
                "valueFrom": {"secretKeyRef": {"name": selector.name, "key": selector.key}},
            }
        )
    return env


def _user_env(pods: RunnerPods) -> list[dict[str, Any]]:
    return [_user_variable(variable) for variable in pods.env]


def _user_variable(variable: EnvVar) -> dict[str, Any]:
    if variable.value_from is None:
        return {"name": variable.name, "value": variable.value or ""}
    return {"name": variable.name, "valueFrom": variable.value_from.to_wire()}


def _placement(pods: RunnerPods) -> dict[str, Any]:
    """Return what the user says about where and as whom the pods run, as far as it is said."""
    wanted: dict[str, Any] = {
        "nodeSelector": dict(pods.node_selector),
        "tolerations": [toleration.to_wire() for toleration in pods.tolerations],
        "affinity": pods.affinity,
        "priorityClassName": pods.priority_class_name,
        "runtimeClassName": pods.runtime_class_name,
        "serviceAccountName": pods.service_account_name,
        "imagePullSecrets": [secret.to_wire() for secret in pods.image_pull_secrets],
    }
    return {name: value for name, value in wanted.items() if value}
