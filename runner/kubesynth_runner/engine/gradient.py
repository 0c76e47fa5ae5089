"""How many requests a server takes before more of them are no use, told by its latency. Pure.

For servers that never say 429, such as one's own vLLM. With N requests under way, each taking L
seconds, a server gives N / L answers per second (Little's law). So how L grows with N says what
growing is worth. The measure is elasticity, d ln(N / L) / d ln N: 1 where an answer takes as long
as before, 0 where twice as many take twice as long, below 0 where more requests do harm.

- A server with slots has 1 below their number and 0 above.
- One that batches takes a + b N seconds, and has a / L: elasticity falls by and by. Where it is
  0.15, the server gives 85 % of what it could at most.
- One whose memory is full (preemption), or that others use as well, may have less than 0.

So the number is changed now and then, up or down, and stays where it was worth it: growth that
brings `WORTH` of itself or more, cuts that cost less than `WASTE`. Both sides of a comparison are
fresh. When the work or the server changes, one comparison is wrong and the next one is right.
Between trials the number is held, and answers that get slower or faster begin the next trial.

How long answers took is compared at equal length (`latency_sample`), until the verdict is sure, or
for `MOST_WINDOWS`. A window is about a round trip: as many answers as requests are under way. After
a change one window passes before it counts, unless growth was clearly good. At the beginning the
number doubles each time.

What elasticity cannot show is that others use the server: who shares a full one gets more of it by
growing, all the more the smaller his part is. Therefore nobody grows while answers take `SLOWEST`
times the quickest that were seen, or while they spend half of their time waiting. Waiting is what
answers take whatever their length, so only servers that count tokens show it.
"""

from __future__ import annotations

import dataclasses
import math

from kubesynth_runner.engine.latency_sample import LatencySample, log_ratio

START = 4
START_FACTOR = 2.0
FACTOR = 1.4
WORTH = 0.15
WASTE = 0.1
# Growth that surely brings half of itself need not be looked at for longer.
CLEARLY_WORTH = 0.5
# Numbers that differ by less are the same.
LEAST_GROWTH = 1.1
# A window has so many answers at least; the first ones, far from any queue, do with fewer.
MIN_SAMPLE = 24
MIN_SAMPLE_AT_START = 12
MOST_WINDOWS = 6
# The number only grows if so much of it has been used.
USED_SHARE = 0.8
# Answers that take so much longer, or shorter, than they did show that something has changed, if
# the difference is so many standard errors as well.
CHANGED = 1.25
SURE = 3.0
# Growing ends where answers take so many times the quickest. A server that batches has come to
# `WORTH` there.
SLOWEST = 1.0 / WORTH
# Growing ends where answers wait for so much of their time, more than the quickest did.
WAITING_SHARE = 0.5
# Below both there is no queue that a cut could shorten.
QUICK = 1.25
HARDLY_WAITING_SHARE = 0.2
# The quickest answers are forgotten when answers have become so many times as long, or as short.
# Where their length is not known, that is after so many windows.
OTHER_WORK = 2.0
FORGOTTEN_AFTER = 100
# Windows from one trial to the next; doubled while growing turns out to be of no use.
LEAST_PATIENCE = 4
MOST_PATIENCE = 32
# How much of what is known of a number is kept when there is another window.
KEPT_SHARE = 0.75


@dataclasses.dataclass(frozen=True, slots=True)
class _Level:
    """A number that counts, and how long answers took with it."""

    limit: float
    sample: LatencySample
    # Whether all of them were sent when the number had been in force for a while.
    is_settled: bool


class LatencyGradient:
    """The number of requests that one model may be working on."""

    def __init__(self) -> None:
        self.limit = float(START)
        self._is_starting = True
        # What the number at hand is compared with, while it is one on trial: 1 for growth, -1 for
        # a cut, 0 for none.
        self._trial = 0
        self._level: _Level | None = None
        self._sample = LatencySample()
        self._windows = 1
        self._since = 0.0
        self._is_settled = False
        self._quickest: LatencySample | None = None
        self._quickest_age = 0
        self._held = 0
        self._patience = LEAST_PATIENCE
        self._next_trial = -1
        self._is_capped = False

    def on_answer(
        self, now: float, latency_seconds: float, work: float | None, in_flight: int, most: int
    ) -> bool:
        """Note an answer; return whether the limit has changed. It never exceeds `most`.

        `work` is how long the answer is, in tokens for example, and 0 if the server doesn't say.
        None stands for a request that was given up after so many seconds.
        """
        before = int(self.limit)
        if self.limit > most:
            self._is_capped = True
            self._begin(float(most), now)
        if now - latency_seconds >= self._since:
            self._sample.add(work, latency_seconds, in_flight)
            least = MIN_SAMPLE_AT_START if self._is_starting else MIN_SAMPLE
            if self._sample.count >= self._windows * max(least, int(self.limit)):
                self._on_window(now, most)
        return int(self.limit) != before

    def _on_window(self, now: float, most: int) -> None:
        """Draw a conclusion from the answers so far, or wait for more."""
        if self._sample.mean_in_flight < USED_SHARE * int(self.limit):
            self._on_unused(now)
            return
        if not self._is_settled:
            self._settle(now, most)
        elif self._level is None:
            self._accept(now, most, is_settled=True)
        elif self._trial:
            self._judge(self._level, now, most)
        else:
            self._hold(self._level, now, most)

    def _on_unused(self, now: float) -> None:
        """Nothing is known of a number that is not reached; growth to it is taken back."""
        if self._trial > 0 and self._level is not None:
            self._trial = 0
            self._move(self._level.limit, now)
        self._forget_sample()

    def _settle(self, now: float, most: int) -> None:
        """Let the first window pass, unless there is no doubt."""
        self._is_settled = True
        if self._level is None:
            is_clear = self._quickest is None and self._sample.work > 0.0
        elif self._trial > 0:
            elasticity, error = _elasticity(self._level.sample, self._sample)
            is_clear = elasticity - error > CLEARLY_WORTH
        else:
            is_clear = False
        if is_clear:
            self._accept(now, most, is_settled=False)
        else:
            self._forget_sample()
            self._since = 0.0

    def _judge(self, level: _Level, now: float, most: int) -> None:
        """Keep the number on trial, take it back, or go on looking."""
        elasticity, error = _elasticity(level.sample, self._sample)
        bound = WORTH if self._trial > 0 else WASTE
        if abs(elasticity - bound) < error and self._windows < MOST_WINDOWS:
            self._windows += 1
        elif elasticity >= bound if self._trial > 0 else elasticity + 0.5 * error < bound:
            self._accept(now, most, is_settled=True)
        elif not level.is_settled:
            # The first answers are the short ones, so that it may have been compared with a number
            # that looked better than it was.
            self._begin(level.limit, now)
        else:
            self._take_back(level, elasticity, now)

    def _accept(self, now: float, most: int, *, is_settled: bool) -> None:
        """Let the number at hand be the one that counts, and go on as it was come by."""
        trial = 1 if self._is_starting else self._trial
        self._note_level(is_settled=is_settled)
        self._trial = 0
        if trial:
            self._try(trial, now, most)

    def _note_level(self, *, is_settled: bool) -> None:
        sample, quickest = self._sample, self._quickest
        self._level = _Level(self.limit, sample, is_settled)
        self._held = 0
        self._quickest_age += 1
        if not is_settled and not sample.work:
            is_quickest = False
        elif quickest is None or self._is_of_another_time(quickest):
            is_quickest = True
        else:
            ratio, _ = log_ratio(quickest, sample)
            is_quickest = ratio + sample.error() - quickest.error() < 0.0
        if is_quickest:
            self._quickest, self._quickest_age = sample, 0
        self._forget_sample()

    def _is_of_another_time(self, quickest: LatencySample) -> bool:
        """Return whether the quickest answers are no measure for those of today."""
        lengths = sorted((quickest.mean_work, self._sample.mean_work))
        if lengths[0] > 0.0:
            return lengths[1] > OTHER_WORK * lengths[0]
        return self._quickest_age > FORGOTTEN_AFTER

    def _take_back(self, level: _Level, elasticity: float, now: float) -> None:
        """Return from a trial; from growth with a part of it, if it was of some use."""
        was_growth, was_start = self._trial > 0, self._is_starting
        self._trial, self._is_starting, self._held = 0, False, 0
        if was_start or self._slower() < QUICK:
            self._patience = LEAST_PATIENCE
        elif was_growth:
            self._patience = min(2 * self._patience, MOST_PATIENCE)
        limit = level.limit
        if was_growth:
            # Slots that lie between the two are met exactly by the first power; the second leaves
            # a few requests that wait.
            gain = (self.limit / level.limit) ** max(0.0, elasticity)
            limit = min(self.limit, level.limit * gain * gain)
        if limit > level.limit * 1.05:
            self._begin(limit, now)
        else:
            self._move(level.limit, now)

    def _hold(self, level: _Level, now: float, most: int) -> None:
        """Stay, until something has changed or it is time to look again."""
        ratio, error = log_ratio(level.sample, self._sample)
        if abs(ratio) > max(math.log(CHANGED), SURE * error):
            self._patience = LEAST_PATIENCE
            self._note_level(is_settled=True)
            self._try(1 if ratio < 0.0 else -1, now, most)
            return
        sample = level.sample.plus(self._sample, KEPT_SHARE)
        self._level = dataclasses.replace(level, sample=sample)
        self._forget_sample()
        self._held += 1
        self._quickest_age += 1
        if self._is_capped and most > self.limit:
            self._follow(most, now)
        elif self._held >= self._patience:
            self._held = 0
            direction, self._next_trial = self._next_trial, -self._next_trial
            self._try(direction, now, most)

    def _follow(self, most: int, now: float) -> None:
        """Make use of a lease that has become larger."""
        if self._level is not None and most <= LEAST_GROWTH * self.limit:
            self.limit = float(most)
            self._level = dataclasses.replace(self._level, limit=self.limit)
        else:
            self._try(1, now, most)

    def _try(self, direction: int, now: float, most: int) -> None:
        """Go to a number that has to prove itself, if there is any point in it."""
        if direction > 0:
            factor = START_FACTOR if self._is_starting else FACTOR
            wish = max(factor * self.limit, self.limit + 1.0)
            limit = min(wish, float(most))
            may_grow = self._slower() < SLOWEST and self._waiting() < WAITING_SHARE
            self._is_capped = may_grow and wish > most
            is_wanted = may_grow and limit >= LEAST_GROWTH * self.limit
        else:
            limit = max(1.0, min(self.limit / FACTOR, self.limit - 1.0))
            is_wanted = self._may_queue()
        if is_wanted and int(limit) != int(self.limit):
            self._trial = direction
            self._move(limit, now)
        else:
            self._is_starting = False

    def _slower(self) -> float:
        """Return how many times the quickest answers' seconds those of this level take, surely."""
        if self._level is None or self._quickest is None:
            return 1.0
        ratio, error = log_ratio(self._quickest, self._level.sample)
        return math.exp(ratio - error)

    def _waiting(self) -> float:
        """Return the share of an answer's time in which it waits, more than the quickest ones."""
        if self._level is None or self._quickest is None:
            return 0.0
        fixed, least = self._level.sample.fixed_seconds(), self._quickest.fixed_seconds()
        if fixed is None or least is None:
            return 0.0
        return (fixed - least) / self._level.sample.mean_seconds

    def _may_queue(self) -> bool:
        """Return whether fewer requests might do as well."""
        if self._slower() >= QUICK or self._level is None:
            return True
        sample = self._level.sample
        return (sample.fixed_seconds() or 0.0) > HARDLY_WAITING_SHARE * sample.mean_seconds

    def _begin(self, limit: float, now: float) -> None:
        """Go to a number that nothing is known of, and find out how long answers take there."""
        self._level, self._trial = None, 0
        self._move(limit, now)

    def _move(self, limit: float, now: float) -> None:
        self.limit = max(1.0, limit)
        self._is_settled = False
        self._since = now
        self._forget_sample()

    def _forget_sample(self) -> None:
        self._sample, self._windows = LatencySample(), 1


def _elasticity(before: LatencySample, after: LatencySample) -> tuple[float, float]:
    """Return d ln(throughput) / d ln(requests under way), and its standard error."""
    growth = math.log(after.mean_in_flight / before.mean_in_flight)
    if abs(growth) < 0.5 * math.log(LEAST_GROWTH):
        return 0.0, math.inf
    ratio, error = log_ratio(before, after)
    return 1.0 - ratio / growth, error / abs(growth)
