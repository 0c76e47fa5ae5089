"""Whether the watches still work: a process that answers probes and sees nothing is dead.

Two kinds of evidence. Our own watches beat whenever the API server speaks to them, and it does so
at least once a minute (bookmarks). The watch on the jobs themselves belongs to Kopf, which does not
let bookmarks through, so it is held to account differently: every version of a job that we know to
exist (we wrote it, or a resync listed it) must come through the watch within `stale_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kubesynth_operator.observation import JobKey


class WatchHealth:
    """Evidence by watch and by job. Times come from one monotonic clock."""

    def __init__(self, clock: Callable[[], float], stale_seconds: float) -> None:
        self._clock = clock
        self._stale_seconds = stale_seconds
        self._beats: dict[str, float] = {}
        self._seen: dict[JobKey, int] = {}
        self._expected: dict[JobKey, tuple[int, float]] = {}

    def beat(self, watch: str) -> None:
        """Note that the API server spoke to a watch."""
        self._beats[watch] = self._clock()

    def seen(self, key: JobKey, version: str) -> None:
        """Note that this version of a job came through the watch."""
        number = _number(version)
        self._seen[key] = max(number, self._seen.get(key, 0))
        expected = self._expected.get(key)
        if expected is not None and expected[0] <= self._seen[key]:
            del self._expected[key]

    def expect(self, key: JobKey, version: str) -> None:
        """Note that this version of a job exists, and so must come through the watch."""
        number = _number(version)
        if number <= self._seen.get(key, 0):
            return
        waiting = self._expected.get(key)
        # The clock runs from the first version that was missed, or a busy job would never be late.
        since = waiting[1] if waiting is not None else self._clock()
        self._expected[key] = (number, since)

    def gone(self, key: JobKey) -> None:
        """Note that a job is no more."""
        self._seen.pop(key, None)
        self._expected.pop(key, None)

    def known(self) -> Iterable[JobKey]:
        """Return the jobs that came through the watch and are not gone."""
        return tuple(self._seen)

    def complaints(self) -> list[str]:
        """Return a sentence for each thing that is wrong; none means healthy."""
        now = self._clock()
        found = [
            f"watch {name} has been silent for {now - at:.0f} s"
            for name, at in self._beats.items()
            if now - at > self._stale_seconds
        ]
        late = [
            key for key, (_, since) in self._expected.items() if now - since > self._stale_seconds
        ]
        if late:
            example = f"{late[0].namespace}/{late[0].name}"
            found.append(f"changes of {len(late)} jobs did not come through, {example} for one")
        return found


def _number(version: str) -> int:
    """Read a resource version; from Kubernetes 1.35 on they may be compared as numbers (KEP-5504).

    One that is no number (a test double, an exotic API server) counts as seen.
    """
    return int(version) if version.isdigit() else 0
