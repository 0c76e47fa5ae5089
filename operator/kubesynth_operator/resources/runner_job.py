"""The Jobs that run the runner: Indexed, with retries per index, and exit codes as the contract.

The order of the rules matters: a pod that the cluster takes away is not the runner's failure,
whatever code it exits with. FailIndex is refused without `backoffLimitPerIndex`, and that needs an
Indexed Job, so even the Jobs of one pod are Indexed (KEP-3329, KEP-3850).
"""

from __future__ import annotations

from typing import Any

from kubesynth_api import labels
from kubesynth_api.runner_contract import ExitCode, InitialShare, RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.observation import Job, Outcome
from kubesynth_operator.resources import naming, pod_template
from kubesynth_operator.settings import OperatorSettings


def build(
    job: Job,
    slot: RunnerPhase,
    settings: OperatorSettings,
    *,
    run_config_name: str,
    verdict: Outcome | None = None,
    first_share: InitialShare | None = None,
) -> dict[str, Any]:
    """Return the manifest of the Job in `slot` (PLAN, GENERATE, FINALIZE or REPORT).

    Args:
        job: The job it belongs to.
        slot: Which Job. GENERATE of a one-shard job runs all phases in its pod.
        settings: The installation.
        run_config_name: The ConfigMap with the run specification.
        verdict: With FINALIZE, how the job will end; kept as an annotation, so that a new operator
            knows it after the Job that it came from has gone.
        first_share: With GENERATE that is made again, what its shards began with at first.

    Raises:
        ValueError: the spec was not understood.
    """
    spec = job.run_spec().spec
    sharded_slot = slot is RunnerPhase.GENERATE
    alone = spec.shards.count == 1
    phase = RunnerPhase.ALL if sharded_slot and alone else slot
    queue_name = job.queue_name if sharded_slot or settings.queue_all_jobs else None
    metadata = naming.metadata(
        job, naming.job_name(job.key.name, slot), _labels(job, slot, queue_name)
    )
    if verdict is not None:
        metadata["annotations"] = {labels.OUTCOME_ANNOTATION: wire.format_outcome(verdict)}
    completions = spec.shards.count if sharded_slot else 1
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": min(spec.parallelism, completions),
            "backoffLimitPerIndex": spec.failure_policy.backoff_limit_per_shard,
            "maxFailedIndexes": spec.failure_policy.max_failed_shards if sharded_slot else 0,
            # No second pod for an index while the first may still write.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "suspend": queue_name is not None,
            "template": pod_template.build(
                job,
                phase,
                settings,
                run_config_name=run_config_name,
                verdict=verdict,
                first_share=first_share,
            ),
        },
    }


def _labels(job: Job, slot: RunnerPhase, queue_name: str | None) -> dict[str, str]:
    result = naming.phase_labels(job, slot)
    if queue_name is not None:
        result[labels.QUEUE_NAME_LABEL] = queue_name
    return result


def _failure_rules() -> list[dict[str, Any]]:
    def on_exit(action: str, code: ExitCode) -> dict[str, Any]:
        return {
            "action": action,
            "onExitCodes": {
                "containerName": labels.RUNNER_CONTAINER,
                "operator": "In",
                "values": [int(code)],
            },
        }

    return [
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        on_exit("Ignore", ExitCode.CHECKPOINTED),
        on_exit("FailJob", ExitCode.CONFIGURATION),
        on_exit("FailIndex", ExitCode.POISONED_SHARD),
    ]
