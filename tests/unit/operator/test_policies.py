"""The small policies, each with its table."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.references import references as references_of
from kubesynth_api.runner_contract import ExitCode, RecordCounts, RunnerPhase, Totals
from kubesynth_api.v1alpha1.synthetic_data_job import Deadlines, ProgressStatus, ShardStatus
from kubesynth_operator.observation import (
    LiveProgress,
    Problem,
    ReferenceKind,
    Referent,
    Referents,
    count_indexes,
)
from kubesynth_operator.policies import (
    acceptance,
    access_modes,
    deadlines,
    disruptions,
    outcome,
    progress,
    references,
    waiting,
)
from kubesynth_operator.settings import Limits
from kubesynth_testing.builders import NOW, a_child, a_job, a_pod
from kubesynth_testing.operator_harness import error_message

GENERATE = RunnerPhase.GENERATE


@pytest.mark.parametrize(
    ("ranges", "count"),
    [("", 0), ("3", 1), ("0-9", 10), ("1,3-5,7", 5), ("0-99,101-9999", 9999)],
)
def test_compressed_indexes_are_counted(ranges: str, count: int) -> None:
    assert count_indexes(ranges) == count


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("fields", "started", "have_run", "exceeded", "next_at", "patience_over"),
    [
        pytest.param({}, ago(10**6), False, False, None, False, id="none"),
        pytest.param({"activeSeconds": 60}, None, False, False, None, False, id="not-started"),
        pytest.param({"activeSeconds": 60}, ago(59), True, False, ago(-1), False, id="in-time"),
        pytest.param({"activeSeconds": 60}, ago(60), True, True, ago(-600), False, id="exactly"),
        pytest.param({"activeSeconds": 60}, ago(660), True, True, None, True, id="long-over"),
        pytest.param({"pendingSeconds": 30}, ago(30), False, True, None, False, id="pending"),
        pytest.param({"pendingSeconds": 30}, ago(30), True, False, None, False, id="it-ran"),
        pytest.param(
            {"pendingSeconds": 30, "activeSeconds": 60},
            ago(10),
            False,
            False,
            ago(-20),
            False,
            id="the-nearer-one-is-next",
        ),
    ],
)
def test_deadlines(
    fields: dict[str, int],
    started: datetime | None,
    have_run: bool,
    exceeded: bool,
    next_at: datetime | None,
    patience_over: bool,
) -> None:
    verdict = deadlines.check(
        Deadlines.model_validate(fields),
        started,
        NOW,
        pods_have_run=have_run,
        in_queue=False,
        grace_seconds=600,
    )
    assert (verdict.exceeded is not None) == exceeded
    assert verdict.next_at == next_at
    assert verdict.out_of_patience == patience_over


def claims(*modes: str) -> Referents:
    return {
        (ReferenceKind.CLAIM, name): Referent(exists=True, access_modes=modes)
        for name in ("corpus", "datasets")
    }


@pytest.mark.parametrize(
    ("shards", "modes", "refused"),
    [
        pytest.param({"count": 1}, ("ReadWriteOnce",), False, id="one-pod"),
        pytest.param({"count": 1}, ("ReadWriteOncePod",), False, id="one-pod-of-its-own"),
        pytest.param({"count": 1}, ("ReadOnlyMany",), True, id="read-only-output"),
        pytest.param(
            {"count": 8, "parallelism": 1}, ("ReadWriteOnce",), False, id="one-pod-at-a-time"
        ),
        pytest.param({"count": 8}, ("ReadWriteOnce",), True, id="many-pods-one-node"),
        pytest.param({"count": 8}, ("ReadWriteMany",), False, id="many-pods"),
        pytest.param({"count": 8}, ("ReadWriteOnce", "ReadWriteMany"), False, id="either"),
        pytest.param(
            {"count": 8, "parallelism": 1}, ("ReadWriteOncePod",), True, id="a-pod-after-another"
        ),
    ],
)
def test_access_modes(shards: dict[str, int], modes: tuple[str, ...], refused: bool) -> None:
    job = a_job(shards=shards["count"]).run_spec().spec
    job = job.model_copy(update={"shards": job.shards.model_validate(shards)})
    problem = access_modes.problem_with(job, references_of(job), claims(*modes))
    assert (problem is not None) == refused
    if problem is not None:
        assert problem.reason is Reason.ACCESS_MODE_CONFLICT
        assert "spec." in problem.message


def test_pods_pinned_to_one_node_may_share_its_volume() -> None:
    spec = (
        a_job(shards=8, runner={"nodeSelector": {"kubernetes.io/hostname": "n1"}}).run_spec().spec
    )
    assert access_modes.problem_with(spec, references_of(spec), claims("ReadWriteOnce")) is None


SECRET = (ReferenceKind.SECRET, "key")
KEYED = {
    "name": "generator",
    "external": {
        "url": "http://llm.example/v1",
        "model": "small",
        "apiKey": {"secretKeyRef": {"name": "key", "key": "token"}},
    },
}


@pytest.mark.parametrize(
    ("referent", "reason", "says"),
    [
        pytest.param(
            Referent(exists=False), Reason.REFERENCE_NOT_FOUND, "does not exist", id="missing"
        ),
        pytest.param(
            Referent(exists=True, keys=frozenset({"other"})),
            Reason.REFERENCE_NOT_FOUND,
            "has no key 'token'",
            id="without-the-key",
        ),
        pytest.param(
            Referent(exists=False, denied=True),
            Reason.REFERENCE_DENIED,
            "lacks 'get'",
            id="denied",
        ),
        pytest.param(Referent(exists=True, keys=frozenset({"token"})), None, "", id="there"),
    ],
)
def test_references(referent: Referent, reason: Reason | None, says: str) -> None:
    spec = a_job(models=[KEYED]).run_spec().spec
    problem = references.problem_with(
        references_of(spec), {**claims("ReadWriteMany"), SECRET: referent}
    )
    assert (problem.reason if problem else None) == reason
    if problem is not None:
        assert "spec.models[0].external.apiKey.secretKeyRef: Secret 'key'" in problem.message
        assert says in problem.message


def test_a_pattern_of_keys_needs_one_that_matches() -> None:
    spec = a_job(input={"uri": "configmap://docs/*.jsonl"}).run_spec().spec
    for keys, found in (({"a.txt"}, False), ({"a.txt", "b.jsonl"}, True)):
        config_map = Referent(exists=True, keys=frozenset(keys))
        referents = {**claims("ReadWriteMany"), (ReferenceKind.CONFIG_MAP, "docs"): config_map}
        assert (references.problem_with(references_of(spec), referents) is None) == found


def test_a_spec_that_does_not_fit_into_a_config_map_is_refused() -> None:
    stage = {"prompt": {"user": {"inline": "x" * 16000}}}
    examples = [{"user": "u" * 8000, "assistant": "a" * 8000}] * 2
    large = [{"prompt": {**stage["prompt"], "examples": examples}}] * 16
    assert acceptance.problem_with(a_job(pipeline=large[:4])) is None
    problem = acceptance.problem_with(a_job(pipeline=large))
    assert problem is not None
    assert problem.reason is Reason.INVALID_SPEC
    assert "524288" in problem.message


def test_a_prompt_in_a_config_map_is_read_along() -> None:
    reference = {"configMapKeyRef": {"name": "prompts", "key": "ask"}}
    job = a_job(pipeline=[{"prompt": {"user": reference}}])

    def problem(template: str) -> Problem | None:
        found = Referent(exists=True, keys=frozenset({"ask"}), data={"ask": template})
        return acceptance.problem_with(job, {(ReferenceKind.CONFIG_MAP, "prompts"): found})

    assert problem("Summarise {{ text }}") is None
    wrong = problem("Summarise {{ txt }")
    assert wrong is not None
    assert "spec.pipeline[0].prompt.user.configMapKeyRef" in wrong.message


@pytest.mark.parametrize(
    ("kubernetes_reason", "failed_indexes", "allowed", "condition", "reason"),
    [
        pytest.param(
            "FailedIndexes", "1", 1, ConditionType.COMPLETE, "SomeShardsFailed", id="tolerated"
        ),
        pytest.param(
            "MaxFailedIndexesExceeded",
            "1",
            0,
            ConditionType.FAILED,
            "ShardBackoffExceeded",
            id="none-may-fail",
        ),
        pytest.param(
            "MaxFailedIndexesExceeded",
            "1,4-5",
            2,
            ConditionType.FAILED,
            "TooManyFailedShards",
            id="too-many",
        ),
    ],
)
def test_how_failed_shards_end_a_job(
    kubernetes_reason: str,
    failed_indexes: str,
    allowed: int,
    condition: ConditionType,
    reason: str,
) -> None:
    job = a_job(shards=8)
    child = a_child(job, GENERATE, failed=kubernetes_reason, failed_indexes=failed_indexes)
    ended = outcome.of_job(child, (), max_failed_shards=allowed, shard_count=8)
    assert ended is not None
    assert (ended.condition, ended.reason.value) == (condition, reason)
    assert ended.partial
    assert f"({failed_indexes})" in ended.message


def test_exit_code_64_of_any_shard_speaks_for_the_whole_job() -> None:
    job = a_job(shards=8)
    pods = [
        a_pod(
            job,
            GENERATE,
            index=1,
            status="Failed",
            exit_code=ExitCode.RETRY,
            finished=timedelta(minutes=5),
            message=error_message(GENERATE, "OutputUnwritable", "not the culprit"),
        ),
        a_pod(
            job,
            GENERATE,
            index=2,
            status="Failed",
            exit_code=ExitCode.CONFIGURATION,
            message=error_message(GENERATE, "InputChanged", "docs/7.jsonl has changed"),
        ),
    ]
    child = a_child(job, GENERATE, failed="PodFailurePolicy", message="exit code 64")
    ended = outcome.of_job(child, pods, max_failed_shards=0, shard_count=8)
    assert ended is not None
    assert (ended.reason, ended.message) == (Reason.INPUT_CHANGED, "docs/7.jsonl has changed")


def test_a_job_is_not_ended_by_a_verdict_that_is_only_announced() -> None:
    job = a_job()
    assert outcome.of_job(a_child(job, GENERATE), (), max_failed_shards=0, shard_count=1) is None


LIMITS = Limits(disruption_base=2, disruption_per_shard=1, disruption_failure_factor=2)


@pytest.mark.parametrize(
    ("count", "warned", "ended"),
    [(3, False, False), (4, True, False), (6, True, False), (7, True, True)],
)
def test_ignored_failures_are_capped(count: int, warned: bool, ended: bool) -> None:
    assert (disruptions.degraded(count, LIMITS, 1) is not None) == warned
    assert (disruptions.exceeded(count, LIMITS, 1) is not None) == ended


def test_only_ignored_failures_are_counted() -> None:
    job = a_job()
    pods = [
        a_pod(job, GENERATE, index=0, status="Failed", exit_code=1),
        a_pod(job, GENERATE, index=1, status="Failed", exit_code=1, disrupted=True),
        a_pod(job, GENERATE, index=2, status="Failed", exit_code=ExitCode.CHECKPOINTED),
        a_pod(job, GENERATE, index=3, status="Succeeded", exit_code=0),
        a_pod(job, GENERATE, index=4, status="Running"),
    ]
    assert disruptions.count(pods) == 2


def live(done: int, total: int = 0, rate: float = 0.0) -> LiveProgress:
    totals = Totals(records=RecordCounts(in_=total, done=done))
    return LiveProgress(totals, rate, 1, 0, NOW)


def test_live_numbers_give_percent_and_eta() -> None:
    now = progress.live(ProgressStatus(), live(25, rate=2.5), 100)
    assert (now.percent, now.eta_seconds, now.records.in_) == (25, 30, 100)


def test_counts_never_go_back() -> None:
    before = progress.live(ProgressStatus(), live(50), 100)
    after = progress.live(before, live(20, rate=1.0), 100)
    assert after.records.done == 50
    assert after.records_per_second == 1.0


def test_a_fresh_operator_keeps_the_numbers_it_finds() -> None:
    before = progress.live(ProgressStatus(), live(50), 100)
    assert progress.live(before, None, 0) == before


def test_all_but_one_record_is_not_a_hundred_percent() -> None:
    assert progress.live(ProgressStatus(), live(999), 1000).percent == 99


def test_a_deleted_job_keeps_its_shard_counters() -> None:
    before = ShardStatus(total=8, active=2, succeeded=6)
    assert progress.shards(None, before, 8) == ShardStatus(total=8, succeeded=6)


def test_failed_indexes_are_cut_between_ranges() -> None:
    indexes = ",".join(str(2 * n) for n in range(200))
    shards = progress.shards(
        a_child(a_job(shards=400), GENERATE, failed_indexes=indexes), ShardStatus(), 400
    )
    assert shards.failed == 200
    assert len(shards.failed_indexes) <= 256
    assert indexes.startswith(shards.failed_indexes + ",")


@pytest.mark.parametrize(
    ("reachable", "unreachable", "silent", "dark", "reason"),
    [
        pytest.param(3, 0, 0, 0, None, id="well"),
        pytest.param(3, 0, 900, 0, Reason.PROGRESS_STALLED, id="stalled"),
        pytest.param(1, 2, 0, 0, None, id="one-answer-is-enough"),
        pytest.param(0, 3, 900, 59, None, id="just-started"),
        pytest.param(0, 3, 900, 60, Reason.PROGRESS_UNKNOWN, id="unknown-is-no-stall"),
        pytest.param(0, 0, 900, 0, None, id="nothing-runs"),
    ],
)
def test_odd_progress(
    reachable: int, unreachable: int, silent: float, dark: float, reason: Reason | None
) -> None:
    seen = LiveProgress(Totals(), 0.0, reachable, unreachable, NOW)
    problem = progress.degraded(seen, silent, dark, stall_seconds=900, unreachable_seconds=60)
    assert (problem.reason if problem else None) == reason


def test_a_stall_is_told_in_the_pods_own_words() -> None:
    seen = LiveProgress(Totals(), 0.0, 1, 0, NOW, message="waiting for judge: refused")
    problem = progress.degraded(seen, 900, 0, stall_seconds=900, unreachable_seconds=60)
    assert problem is not None
    assert problem.message.endswith("They say: waiting for judge: refused")


def test_the_most_common_wait_is_described() -> None:
    job = a_job()
    pods = [
        a_pod(job, GENERATE, index=0, status="Pending", waiting=("ContainerCreating", "")),
        a_pod(job, GENERATE, index=1, status="Pending", unschedulable="0/3 nodes have enough cpu"),
        a_pod(job, GENERATE, index=2, status="Pending", unschedulable="0/3 nodes have enough cpu"),
        a_pod(job, GENERATE, index=3, status="Pending", waiting=("ErrImagePull", "no such image")),
    ]
    assert waiting.describe(pods) == "Unschedulable: 0/3 nodes have enough cpu"
    assert waiting.describe(pods[:1]) == ""


@pytest.mark.parametrize("uri", ["file:///tmp/out", "/tmp/out", "file://out"])
def test_a_folder_of_the_pod_is_no_output(uri: str) -> None:
    problem = acceptance.problem_with(a_job(output={"uri": uri}))
    assert problem is not None
    assert problem.reason is Reason.INVALID_SPEC
    assert problem.message.startswith("spec.output.uri: a folder of the pod is gone with the pod")
    problem = acceptance.problem_with(a_job(input=None, retryFailed={"fromOutput": uri}))
    assert problem is not None
    assert problem.message.startswith("spec.retryFailed.fromOutput: no pod has a folder")


@pytest.mark.parametrize("uri", ["pvc://datasets/qa", "s3://bucket/qa", "gs://b/qa", "az://c/qa"])
def test_what_outlives_the_pod_is_an_output_and_the_image_may_have_the_input(uri: str) -> None:
    job = a_job(output={"uri": uri}, input={"uri": "file:///opt/docs"})
    assert acceptance.problem_with(job) is None
