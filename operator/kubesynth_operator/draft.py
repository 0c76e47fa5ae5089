"""The status as it should be: from verdicts and counters to the object that is stored. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.meta import Condition
from kubesynth_api.runner_contract import Failures, RunnerPhase
from kubesynth_api.v1alpha1.models import ModelSpec
from kubesynth_api.v1alpha1.synthetic_data_job import (
    ModelStatus,
    OutputStatus,
    ProgressStatus,
    SyntheticDataJobStatus,
)
from kubesynth_operator import status
from kubesynth_operator.assess import Assessment
from kubesynth_operator.observation import Observation
from kubesynth_operator.policies import progress
from kubesynth_operator.status import Verdicts


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """What a decision says about the status; the rest follows from the observation.

    `start_time` and `completion_time` stay as they are when None. `settled` says that the job is
    at rest, so that a rate or an ETA would be a lie.
    """

    verdicts: Verdicts
    start_time: str | None = None
    completion_time: str | None = None
    settled: bool = False


def compose(
    observation: Observation, draft: Draft, assessment: Assessment | None = None
) -> SyntheticDataJobStatus:
    """Return the status to store. Without an assessment the spec was not looked at."""
    job, before = observation.job, observation.job.status
    verdicts = status.with_mirrors(draft.verdicts)
    after = before.model_copy(
        update={
            "observed_generation": job.generation,
            "conditions": status.merge(
                before.conditions, verdicts, generation=job.generation, now=observation.now
            ),
            "start_time": draft.start_time or before.start_time,
            "completion_time": draft.completion_time or before.completion_time,
        }
    )
    if assessment is not None:
        after = after.model_copy(update=_counters(observation, assessment, draft.settled))
    return status.with_phase(after)


def _counters(observation: Observation, assessment: Assessment, settled: bool) -> dict[str, object]:
    spec, before = observation.spec, observation.job.status
    generate = observation.children.get(RunnerPhase.GENERATE)
    shards = progress.shards(generate, before.shards, spec.shards.count)
    plan = assessment.plan_message
    counters: dict[str, object] = {
        "shards": shards,
        "summary": f"{shards.succeeded}/{shards.total}",
        "estimate": (plan.estimate if plan else None) or before.estimate,
        "progress": _progress(observation, assessment, settled),
        "failures": failures(observation, assessment),
        "files_left_out": _left_out(observation, assessment),
        "models": _models(observation, assessment),
    }
    if assessment.totals is not None:
        counters["outputs"] = OutputStatus(
            uri=spec.output.uri,
            manifest=assessment.totals.manifest_uri or "",
            report=assessment.totals.report_uri or "",
        )
    return counters


def _progress(observation: Observation, assessment: Assessment, settled: bool) -> ProgressStatus:
    before = observation.job.status.progress
    if assessment.totals is not None and assessment.totals.totals is not None:
        return progress.final(assessment.totals.totals, before)
    plan = assessment.plan_message
    now = progress.live(before, observation.live, (plan.input_records or 0) if plan else 0)
    return progress.stopped(now) if settled else now


def failures(observation: Observation, assessment: Assessment) -> tuple[Failures, ...] | None:
    """Return the commonest kinds of failed records, as far as they are known."""
    before, live = observation.job.status.failures, observation.live
    if assessment.totals is not None:
        # A runner of an older version says nothing of them.
        found = {each.kind: each for each in assessment.totals.failures or ()}
        return tuple(found.values()) or before
    return progress.failures(before, live.failures) if live is not None else before


def _left_out(observation: Observation, assessment: Assessment) -> str | None:
    for spoke in (assessment.plan_message, assessment.totals, observation.live):
        if spoke is not None and spoke.left_out:
            return spoke.left_out
    return observation.job.status.files_left_out


def _models(observation: Observation, assessment: Assessment) -> tuple[ModelStatus, ...]:
    """Return the models as they are now."""
    ready = assessment.plan_message is not None or assessment.totals is not None
    return tuple(_model(observation, model, ready) for model in observation.spec.models)


def _model(observation: Observation, model: ModelSpec, planned: bool) -> ModelStatus:
    """Return one model. Plan has spoken to those without a server: its end says they answer."""
    view = observation.servers.get(model.name)
    if view is not None:
        return ModelStatus(
            name=model.name,
            endpoint=view.endpoint,
            model=view.model,
            ready=view.ready,
            server=f"{view.namespace}/{view.name}",
            reason=view.reason.value,
            since=view.since,
        )
    answered = {each.name for each in observation.job.status.models if each.ready}
    return ModelStatus(
        name=model.name,
        endpoint=model.external.url if model.external else "",
        model=model.external.model if model.external else "",
        ready=planned or model.name in answered,
    )


def is_progress_only(before: SyntheticDataJobStatus, after: SyntheticDataJobStatus) -> bool:
    """Tell whether nothing but numbers and sentences has changed, which can wait.

    Why pods are not made, say, may be told differently from one moment to the next. That the last
    pod is gone cannot wait: whoever suspended the job waits for it. Nor can what running pods say,
    such as that a model does not answer, which the `ProgressBook` keeps from changing too often.
    """
    if before.shards.active and not after.shards.active:
        return False
    if _said(before) != _said(after):
        return False
    if [_verdict(item) for item in before.conditions] != [
        _verdict(item) for item in after.conditions
    ]:
        return False
    numbers: dict[str, object] = {
        "conditions": after.conditions,
        "shards": after.shards,
        "progress": after.progress,
        "summary": after.summary,
        "models": after.models,
    }
    if before.failures:  # the first ones are news
        numbers["failures"] = after.failures
    return before.model_copy(update=numbers) == after


def _said(stored: SyntheticDataJobStatus) -> str:
    """Return what running pods said when the status was written, as `running_message` tells it."""
    running = status.find(stored, ConditionType.RUNNING)
    usual = RUNNING_MESSAGES.get(running.reason) if running is not None else None
    if running is None or usual is None or not running.message.startswith(usual):
        return ""
    return running.message.removeprefix(usual)


def _verdict(condition: Condition) -> tuple[str, str, str, int | None]:
    return condition.type, condition.status, condition.reason, condition.observed_generation


def running_reason(phase: RunnerPhase) -> Reason:
    """Return the reason of Running=True while the Job of `phase` is the current one."""
    return {
        RunnerPhase.PLAN: Reason.PLANNING,
        RunnerPhase.GENERATE: Reason.SHARDS_ACTIVE,
    }.get(phase, Reason.FINALIZING)


RUNNING_MESSAGES: Mapping[str, str] = {
    Reason.PLANNING: "The plan pod checks the spec and divides the input.",
    Reason.SHARDS_ACTIVE: "Shards are at work.",
    Reason.FINALIZING: "The finalize pod sums up the shards and writes the report.",
}


def running_message(reason: Reason, said: str) -> str:
    """Return the message of Running=True, with what the running pods say."""
    if not said:
        return RUNNING_MESSAGES[reason]
    who = "They say" if reason is Reason.SHARDS_ACTIVE else "It says"
    return f"{RUNNING_MESSAGES[reason]} {who}: {said}"
