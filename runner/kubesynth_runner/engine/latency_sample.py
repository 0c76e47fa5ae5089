"""How long answers took, at some number of requests under way. Pure.

Answers differ in length far more than a server differs between two numbers of requests. So what is
compared is how long an answer of the same length takes: seconds are regressed on the answer's
tokens, where the server counts them. Where it does not, or where they do not matter, the mean is
what is left. What the regression says of an answer without tokens is the time that does not depend
on the length: reading the prompt, and waiting for a slot.
"""

from __future__ import annotations

import dataclasses
import math

# The regression counts for something if it explains so much of the variance.
EXPLAINED_SHARE = 0.2
# An answer of a length that was hardly seen takes no less than this share of the mean.
LEAST_SHARE = 0.05


@dataclasses.dataclass(slots=True)
class LatencySample:
    """Sums over answers. `work` is an answer's length in any unit, 0 where it is not known."""

    count: float = 0.0
    work: float = 0.0
    seconds: float = 0.0
    in_flight: float = 0.0
    work_work: float = 0.0
    work_seconds: float = 0.0
    seconds_seconds: float = 0.0

    def add(self, work: float | None, seconds: float, in_flight: int) -> None:
        """Note an answer, and how many requests were under way when it came.

        Without `work` it is taken for one of the mean length.
        """
        if work is None:
            work = self.mean_work if self.count else 0.0
        self.count += 1.0
        self.work += work
        self.seconds += seconds
        self.in_flight += in_flight
        self.work_work += work * work
        self.work_seconds += work * seconds
        self.seconds_seconds += seconds * seconds

    def plus(self, other: LatencySample, share: float) -> LatencySample:
        """Return so much of this sample, together with another one."""
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return LatencySample(*(share * a + b for a, b in zip(mine, others, strict=True)))

    @property
    def mean_in_flight(self) -> float:
        """Requests under way, on average."""
        return self.in_flight / self.count

    @property
    def mean_work(self) -> float:
        """The length of an answer, on average."""
        return self.work / self.count

    @property
    def mean_seconds(self) -> float:
        """The seconds of an answer, on average, of a microsecond at least."""
        return max(1e-6, self.seconds / self.count)

    def seconds_of(self, work: float) -> float:
        """Return how long answers of so much work took, on average."""
        expected = self.mean_seconds + self._slope() * (work - self.mean_work)
        return max(expected, LEAST_SHARE * self.mean_seconds)

    def fixed_seconds(self) -> float | None:
        """Return what answers took whatever their length, None where that is not to be told."""
        slope = self._slope()
        if not slope or self._explained() < EXPLAINED_SHARE * self._variation():
            return None
        return max(0.0, self.mean_seconds - slope * self.mean_work)

    def error(self) -> float:
        """Return the standard error of `seconds_of`, as a share of the mean."""
        rest = max(0.0, self._variation() - self._explained())
        return math.sqrt(rest) / self.count / self.mean_seconds

    def _variation(self) -> float:
        return self.seconds_seconds - self.seconds * self.seconds / self.count

    def _explained(self) -> float:
        return self._slope() * (self.work_seconds - self.work * self.seconds / self.count)

    def _slope(self) -> float:
        """Return seconds per unit of work."""
        spread = self.work_work - self.work * self.work / self.count
        if spread <= 1e-6 * self.work_work:
            return 0.0
        return max(0.0, (self.work_seconds - self.work * self.seconds / self.count) / spread)


def log_ratio(before: LatencySample, after: LatencySample) -> tuple[float, float]:
    """Return the logarithm of how much longer the same answer takes, and its standard error."""
    work = (before.work + after.work) / (before.count + after.count)
    ratio = math.log(after.seconds_of(work) / before.seconds_of(work))
    return ratio, math.hypot(before.error(), after.error())
