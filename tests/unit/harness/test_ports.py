"""The ports that servers of tests are given."""

from __future__ import annotations

import itertools

from kubesynth_testing.ports import _numbers


def test_processes_of_a_test_run_draw_different_ports_and_each_draws_none_twice() -> None:
    drawn = [list(itertools.islice(_numbers(f"gw{worker}", 4), 4000)) for worker in range(4)]
    assert len({port for ports in drawn for port in ports}) == 16_000
    assert all(15_000 <= port < 32_000 for ports in drawn for port in ports)
