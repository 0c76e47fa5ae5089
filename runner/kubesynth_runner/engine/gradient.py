"""How many requests a server takes before they only queue, told by its latency. Pure.

For servers that never say 429, such as one's own vLLM. As long as a server has room, an answer
takes the same time however many requests are under way; beyond, they wait for each other. So the
number may grow while the median latency stays below 1.7 times the lowest median that was seen, and
shrinks above. The factor is generous on purpose: a little queue keeps the server busy, and a server
that batches gets slower by and by long before it is full. With the constants below, simulated
servers of 4 to 256 slots with latencies of sigma 0 to 1 stay at least 97 % busy, with 1.0 to 1.8
requests under way per slot.

The scheme is that of Netflix's concurrency-limits (gradient), on medians instead of the minimum:
answers differ in length, so that the fastest of many says nothing about the queue.

One window is about a round trip: as many answers as there are slots, to requests that were sent
after the window before it ended. At the beginning the number doubles with each window.
"""

from __future__ import annotations

import math
import statistics

START = 4
DOUBLE_BELOW_RATIO = 1.3
GROW_BELOW_RATIO = 1.7
SHRINK = 0.9
# A median needs so many answers at least; the first ones, far from any queue, do with fewer.
MIN_SAMPLE = 24
MIN_SAMPLE_AT_START = 12
# The number only grows if so much of it has been used.
USED_SHARE = 0.8
# So many cuts in a row that have not made answers faster show that it is not a queue that makes
# them slow: the work has become heavier.
FRUITLESS_CUTS = 5
FRUITLESS_SHARE = 0.95


class LatencyGradient:
    """The number of requests that one model may be working on."""

    def __init__(self) -> None:
        self.limit = float(START)
        self._is_starting = True
        self._baseline_seconds = math.inf
        self._window_since = 0.0
        self._latencies: list[float] = []
        self._most_in_flight = 0
        self._cuts = 0
        self._before_cuts_seconds = 0.0

    def on_answer(self, now: float, latency_seconds: float, in_flight: int, most: int) -> bool:
        """Note an answer; return whether the limit has changed. It never exceeds `most`."""
        self._most_in_flight = max(self._most_in_flight, in_flight)
        if now - latency_seconds < self._window_since:
            return False  # sent under another limit
        self._latencies.append(latency_seconds)
        least = MIN_SAMPLE_AT_START if self._is_starting else MIN_SAMPLE
        if len(self._latencies) < max(least, int(self.limit)):
            return False
        before = self.limit
        self._judge(statistics.median(self._latencies))
        self.limit = max(1.0, min(self.limit, float(most)))
        self._latencies.clear()
        self._window_since = now
        self._most_in_flight = in_flight
        return int(self.limit) != int(before)

    def _judge(self, median_seconds: float) -> None:
        self._baseline_seconds = min(self._baseline_seconds, median_seconds)
        ratio = median_seconds / max(self._baseline_seconds, 1e-6)
        if ratio >= GROW_BELOW_RATIO:
            self._is_starting = False
            self._cut(median_seconds)
            return
        self._cuts = 0
        if self._most_in_flight < USED_SHARE * self.limit:
            return
        self._is_starting = self._is_starting and ratio < DOUBLE_BELOW_RATIO
        self.limit += self.limit if self._is_starting else math.sqrt(self.limit)

    def _cut(self, median_seconds: float) -> None:
        if self._cuts == 0:
            self._before_cuts_seconds = median_seconds
        elif self._cuts >= FRUITLESS_CUTS:
            self._cuts = 0
            if median_seconds > FRUITLESS_SHARE * self._before_cuts_seconds:
                self._baseline_seconds = median_seconds
                return
            self._before_cuts_seconds = median_seconds
        self._cuts += 1
        self.limit *= SHRINK
