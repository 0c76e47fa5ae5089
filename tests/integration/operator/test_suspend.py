"""Suspend, resume and parallelism, as the real Job controller carries them out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator import wire
from kubesynth_operator.app import Application
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube.resources import JOBS
from kubesynth_operator.observation import JobKey
from kubesynth_operator.observe import Observer, Snapshots
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_operator.servers.catalog import Catalog
from kubesynth_testing.operator_harness import (
    Namespace,
    eventually,
    plan_message,
    run_message,
    shard_message,
)


async def no_pods(namespace: Namespace, job: str) -> None:
    async def none() -> bool:
        return not await namespace.pods(job)

    await eventually(none, f"{job} has no pods")


async def test_suspend_takes_the_pods_away_and_resume_keeps_what_is_done(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(shards=2)
    await namespace.play("qa-plan", message=plan_message(6))
    await namespace.play("qa-generate", 0, message=shard_message(3))
    await namespace.pod("qa-generate", 1)
    await namespace.patch("qa", {"suspend": True})
    await namespace.until("Suspended", "True", "SuspendedByUser")
    await no_pods(namespace, "qa-generate")
    status = (await namespace.job())["status"]
    assert status["phase"] == "Suspended"
    assert (await namespace.condition("Running"))["status"] == "False"
    started_at = status["startTime"]
    await namespace.patch("qa", {"suspend": False})
    await namespace.until("Suspended", "False", "Resumed")
    await namespace.play("qa-generate", 1, message=shard_message(3))
    await namespace.play("qa-finalize", message=run_message(done=6))
    await namespace.until("Complete", "True")
    status = (await namespace.job())["status"]
    assert status["startTime"] >= started_at
    generate = await namespace.child("qa-generate")
    assert generate is not None
    assert generate["status"]["succeeded"] == 2, "shard 0 ran once"
    assert not generate["status"].get("failed"), "a suspended pod is no failure"


async def test_an_operator_that_begins_sees_whether_a_job_has_had_shards(
    operator: Application, namespace: Namespace
) -> None:
    def nothing_seen() -> Observer:
        snapshots = Snapshots(
            ChildCache(wire.parse_child_job, lambda key: None),
            ChildCache(wire.parse_pod, lambda key: None),
            ProgressBook(),
            Catalog(lambda key: None, lambda key: None),
        )
        return Observer(
            namespace.client, snapshots, lambda: datetime.now(UTC), referent_age=timedelta(0)
        )

    async def has_had_shards() -> bool:
        seen = await nothing_seen().observe(JobKey(namespace.name, "qa"))
        assert seen is not None
        return RunnerPhase.GENERATE in seen.children or seen.has_lease_secret

    await namespace.apply(shards=2)
    await namespace.pod("qa-plan")
    assert not await has_had_shards()
    await namespace.play("qa-plan", message=plan_message(6))
    await namespace.pod("qa-generate")
    assert await has_had_shards()


async def test_a_job_created_suspended_makes_nothing_until_it_is_resumed(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(suspend=True)
    await namespace.until("Suspended", "True", "SuspendedByUser")
    assert await namespace.objects(JOBS) == []
    assert "startTime" not in (await namespace.job())["status"]
    await namespace.patch("qa", {"suspend": False})
    await namespace.pod("qa-generate")


async def test_parallelism_follows_the_spec(operator: Application, namespace: Namespace) -> None:
    await namespace.apply(shards=4)
    await namespace.patch("qa", {"shards": {"parallelism": 1}})
    await namespace.play("qa-plan", message=plan_message(8))
    await namespace.pod("qa-generate", 0)
    assert len(await namespace.pods("qa-generate")) == 1
    # Pods that nobody can reach keep their share of the model: there is room for one more.
    await namespace.patch("qa", {"shards": {"parallelism": 2}})

    async def two() -> bool:
        return len(await namespace.pods("qa-generate")) == 2

    await eventually(two, "two pods at once")


async def test_a_deadline_stops_the_shards_and_what_they_made_is_reported(
    operator: Application, namespace: Namespace
) -> None:
    await namespace.apply(shards=2, deadlines={"activeSeconds": 4})
    await namespace.play("qa-plan", message=plan_message(6))
    await namespace.play("qa-generate", 0, message=shard_message(3))
    await namespace.until("Running", "True", "Finalizing")
    assert await namespace.pods("qa-generate") == []
    await namespace.play("qa-finalize", message=run_message(done=3))
    await namespace.until("Failed", "True", "DeadlineExceeded")
    assert (await namespace.job())["status"]["progress"]["records"]["done"] == 3
