"""What the operator keeps in memory: children, shards' words, and evidence that watches work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kubesynth_api.runner_contract import (
    Failures,
    ProgressReport,
    RecordCounts,
    RunnerPhase,
    TerminationMessage,
    Totals,
)
from kubesynth_operator import wire
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.health import WatchHealth
from kubesynth_operator.observation import ChildJob, JobKey
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_testing.builders import NOW, ChildState, a_job, child_object

KEY = JobKey("team", "qa")
LATER = NOW + timedelta(minutes=5)


def a_cache() -> tuple[ChildCache[ChildJob], list[JobKey]]:
    changed: list[JobKey] = []
    return ChildCache(wire.parse_child_job, changed.append), changed


def a_raw(phase: RunnerPhase = RunnerPhase.PLAN, **state: Any) -> dict[str, Any]:
    return child_object(a_job(shards=3), phase, ChildState(**state))


def test_a_child_that_did_not_change_wakes_nobody() -> None:
    cache, changed = a_cache()
    cache.upsert(a_raw())
    cache.upsert(a_raw())
    assert changed == [KEY]
    cache.upsert(a_raw(active=1))
    assert changed == [KEY, KEY]


def test_children_deleted_while_nobody_watched_are_missed_at_the_next_list() -> None:
    cache, changed = a_cache()
    cache.upsert(a_raw())
    cache.upsert(a_raw(RunnerPhase.GENERATE))
    changed.clear()
    cache.keep(None, {("team", "qa-generate")})
    assert [child.name for child in cache.of_job(KEY)] == ["qa-generate"]
    assert changed == [KEY]


def test_a_list_of_one_namespace_says_nothing_about_another() -> None:
    cache, _ = a_cache()
    cache.upsert(a_raw())
    cache.keep("other", set())
    assert len(cache.of_job(KEY)) == 1
    cache.keep("team", set())
    assert cache.of_job(KEY) == ()


def test_a_child_that_is_given_to_another_job_is_no_longer_the_first_one_s() -> None:
    cache, changed = a_cache()
    cache.upsert(a_raw())
    moved = a_raw()
    moved["metadata"]["labels"]["kubesynth.io/job-name"] = "other"
    changed.clear()
    cache.upsert(moved)
    assert cache.of_job(KEY) == ()
    assert len(cache.of_job(JobKey("team", "other"))) == 1
    assert set(changed) == {KEY, JobKey("team", "other")}
    cache.delete(moved)
    assert list(cache.all()) == []


def test_deleting_what_was_never_seen_is_harmless() -> None:
    cache, changed = a_cache()
    cache.delete(a_raw())
    assert changed == []


def word(done: int) -> Totals:
    return Totals(records=RecordCounts(in_=10, done=done))


def report(done: int, *, rate: float = 1.0, message: str = "", **more: Any) -> ProgressReport:
    return ProgressReport(
        phase=RunnerPhase.GENERATE,
        totals=word(done),
        records_per_second=rate,
        message=message,
        **more,
    )


def last(done: int, *failures: Failures) -> TerminationMessage:
    return TerminationMessage(
        phase=RunnerPhase.GENERATE, totals=word(done), failures=failures or None
    )


def said(book: ProgressBook, phase: RunnerPhase = RunnerPhase.GENERATE) -> str:
    live = book.live("u")
    assert live is not None
    return live.said_by(phase)


def test_what_most_pods_say_is_kept_while_they_say_it() -> None:
    book = ProgressBook()
    for index, message in enumerate(("", "waiting for a: no", "waiting for b", "waiting for b")):
        book.record("u", index, report(1, message=message), now=NOW)
    assert book.settle("u", now=NOW)
    assert said(book) == "waiting for b"
    book.record("u", 2, report(1), now=NOW)
    book.record_end("u", 3, last(1), succeeded=False, now=NOW)
    assert book.settle("u", now=NOW)
    assert said(book) == "waiting for a: no"
    book.record_round("u", reachable=0, unreachable=2, now=LATER)
    assert book.settle("u", now=LATER)
    assert said(book) == ""


def test_what_pods_say_is_news_once_and_then_not_for_a_while() -> None:
    book = ProgressBook(pause_seconds=30)
    told: list[str] = []
    for second, message in enumerate(["a", "b", "a", "", "b"] * 6):
        now = NOW + timedelta(seconds=second * 3)
        book.record("u", 0, report(1, message=message), now=now)
        book.record_round("u", reachable=1, unreachable=0, now=now)
        if book.settle("u", now=now):
            told.append(f"{second * 3}: {said(book)}")
    assert told == ["0: a", "33: b", "66: a"]


def test_a_plan_pod_is_heard_and_counts_for_nothing() -> None:
    book = ProgressBook(pause_seconds=30)
    book.record_words("u", RunnerPhase.PLAN, report(7, message="waiting for a"), now=NOW)
    book.record_round("u", reachable=0, unreachable=0, now=NOW)
    assert book.settle("u", now=NOW)
    live = book.live("u")
    assert live is not None
    assert (said(book, RunnerPhase.PLAN), said(book)) == ("waiting for a", "")
    assert (live.totals, live.reachable, live.unreachable) == (Totals(), 0, 0)
    book.keep({"u"}, at_work={"u": {RunnerPhase.PLAN}})
    assert said(book, RunnerPhase.PLAN) == "waiting for a"
    book.keep({"u"}, at_work={"u": {RunnerPhase.GENERATE}})
    assert said(book, RunnerPhase.PLAN) == ""
    book.record("u", 0, report(0, message="waiting for b"), now=NOW)
    assert book.settle("u", now=NOW), "another phase waits for nobody"
    assert said(book) == "waiting for b"


def test_kinds_of_failures_are_summed_over_shards() -> None:
    book = ProgressBook()
    bad, refused = (
        Failures(kind="BadInput", count=2, message="x"),
        Failures(kind="Refusal", count=3),
    )
    book.record("u", 0, report(1, failures=(bad,)), now=NOW)
    book.record("u", 0, report(1, failures=(refused, bad)), now=NOW)
    book.record_end(
        "u", 1, last(1, bad.model_copy(update={"message": "y"})), succeeded=True, now=NOW
    )
    live = book.live("u")
    assert live is not None
    assert [(each.kind, each.count, each.message) for each in live.failures] == [
        ("BadInput", 4, "x"),
        ("Refusal", 3, ""),
    ]


def test_words_of_shards_are_summed_and_replaced() -> None:
    book = ProgressBook()
    book.record("u", 0, report(1, rate=1.0), now=NOW)
    book.record("u", 1, report(2, rate=0.5), now=NOW)
    book.record("u", 0, report(4, rate=2.0), now=LATER)
    live = book.live("u")
    assert live is not None
    assert (live.totals.records.in_, live.totals.records.done) == (20, 6)
    assert live.records_per_second == 2.5
    assert live.changed_at == LATER


def test_a_shard_s_last_word_is_final_and_has_no_rate() -> None:
    book = ProgressBook()
    book.record("u", 0, report(9, rate=1.0), now=NOW)
    book.record_end("u", 0, last(10), succeeded=True, now=NOW)
    book.record("u", 0, report(3, rate=1.0), now=NOW)
    book.record_end("u", 0, last(4), succeeded=False, now=NOW)
    live = book.live("u")
    assert live is not None
    assert (live.totals.records.done, live.records_per_second) == (10, 0)


def test_a_word_that_says_nothing_new_is_no_progress() -> None:
    book = ProgressBook()
    book.record("u", 0, report(1, rate=1.0), now=NOW)
    book.record("u", 0, report(1, rate=0.0), now=LATER)
    live = book.live("u")
    assert live is not None
    assert live.changed_at == NOW


def test_a_pause_is_not_a_stall() -> None:
    book = ProgressBook()
    book.record("u", 0, report(1, rate=1.0), now=NOW)
    book.keep({"u"}, at_work={})
    quiet = book.live("u")
    assert quiet is not None
    assert (quiet.reachable, quiet.unreachable, quiet.records_per_second) == (0, 0, 0)
    book.record_round("u", reachable=1, unreachable=0, now=LATER)
    live = book.live("u")
    assert live is not None
    assert live.changed_at == LATER


def test_unreachable_pods_are_timed_from_the_first_round_without_an_answer() -> None:
    book = ProgressBook()
    book.record_round("u", reachable=0, unreachable=2, now=NOW)
    book.record_round("u", reachable=0, unreachable=2, now=LATER)
    live = book.live("u")
    assert live is not None
    assert live.unreachable_since == NOW
    book.record_round("u", reachable=1, unreachable=1, now=LATER)
    live = book.live("u")
    assert live is not None
    assert live.unreachable_since is None


def test_jobs_without_pods_are_forgotten() -> None:
    book = ProgressBook()
    book.record("u", 0, report(1, rate=1.0), now=NOW)
    book.record("v", 0, report(1, rate=1.0), now=NOW)
    book.keep({"v"}, at_work={"v": {RunnerPhase.GENERATE}})
    assert book.live("u") is None
    assert book.live("v") is not None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_health() -> tuple[WatchHealth, Clock]:
    clock = Clock()
    return WatchHealth(clock, stale_seconds=300), clock


def test_a_silent_watch_is_unhealthy() -> None:
    health, clock = a_health()
    health.beat("jobs/*")
    clock.now += 300
    assert health.complaints() == []
    clock.now += 1
    assert health.complaints() == ["watch jobs/* has been silent for 301 s"]
    health.beat("jobs/*")
    assert health.complaints() == []


def test_a_change_that_never_comes_through_is_unhealthy() -> None:
    health, clock = a_health()
    health.expect(KEY, "7")
    clock.now += 200
    health.expect(KEY, "9")  # newer writes do not restart the clock
    clock.now += 101
    assert health.complaints() == ["changes of 1 jobs did not come through, team/qa for one"]
    health.seen(KEY, "8")
    assert health.complaints()
    health.seen(KEY, "9")
    assert health.complaints() == []


def test_a_change_that_came_through_first_is_not_waited_for() -> None:
    health, clock = a_health()
    health.seen(KEY, "9")
    health.expect(KEY, "9")
    clock.now += 1000
    assert health.complaints() == []


def test_a_job_that_is_gone_is_not_waited_for() -> None:
    health, clock = a_health()
    health.expect(KEY, "9")
    health.gone(KEY)
    clock.now += 1000
    assert health.complaints() == []
    assert list(health.known()) == []
