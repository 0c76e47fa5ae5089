"""A kind that comes and goes, and that we may or may not see."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.optional_watch import OptionalWatch, Presence
from kubesynth_operator.kube.resources import LEADER_WORKER_SETS
from kubesynth_operator.kube.watch import Scope
from kubesynth_operator.metrics import Metrics
from kubesynth_operator.unreadable import Unreadable
from kubesynth_testing import virtual_time
from kubesynth_testing.listing_server import KnownNames, ListingServer

SCOPE = Scope(LEADER_WORKER_SETS, None, "")


def story(
    server: ListingServer, *chapters: Callable[[], None]
) -> list[tuple[Presence, set[str], bool]]:
    """Return what a watch knew a minute after each chapter, and whether it was synced.

    Asserted besides: it tells of a change exactly when there was one.
    """
    names = KnownNames()
    seen: list[tuple[Presence, set[str], bool]] = []

    async def main() -> None:
        changes: list[None] = []
        watch = OptionalWatch(
            cast(KubeClient, server),
            SCOPE,
            names,
            lambda: changes.append(None),
            Unreadable(Metrics()),
        )
        task = asyncio.create_task(watch.run())
        for chapter in (lambda: None, *chapters):
            chapter()
            before = watch.presence
            told = len(changes)
            await asyncio.sleep(60)
            assert len(changes) - told == (watch.presence is not before)
            seen.append((watch.presence, set(names.known), watch.synced.is_set()))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    virtual_time.run(main())
    return seen


def test_a_missing_kind_counts_as_known_and_is_followed_when_it_comes_until_it_goes() -> None:
    server = ListingServer()
    seen = story(
        server,
        lambda: setattr(server, "status", 200),
        lambda: setattr(server, "status", 404),
        lambda: setattr(server, "status", 200),
    )
    assert seen == [
        (Presence.MISSING, set(), True),
        (Presence.INSTALLED, {"one"}, True),
        (Presence.MISSING, set(), True),
        (Presence.INSTALLED, {"one"}, True),
    ]


def test_a_kind_that_may_not_be_listed_is_no_reason_to_wait_for_ever() -> None:
    server = ListingServer(403)
    seen = story(server, lambda: setattr(server, "status", 200))
    assert seen == [(Presence.DENIED, set(), True), (Presence.INSTALLED, {"one"}, True)]


def test_nobody_who_answers_leaves_what_was_known() -> None:
    server = ListingServer(200)
    seen = story(server, lambda: setattr(server, "status", 503))
    assert seen == [(Presence.INSTALLED, {"one"}, True)] * 2


def test_an_unknown_start_is_waited_for() -> None:
    server = ListingServer(503)
    seen = story(server, lambda: setattr(server, "status", 404))
    assert seen == [(Presence.MISSING, set(), False), (Presence.MISSING, set(), True)]
