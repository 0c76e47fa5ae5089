"""What Docker added to the host's packet filter is taken away, and nothing else."""

from __future__ import annotations

from kubesynth_testing.cluster import host_state

BEFORE = ["-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-N OURS", "-A FORWARD -j OURS"]


def test_untouched_table_needs_no_command() -> None:
    assert host_state.undo_commands(BEFORE, BEFORE) == []


def test_rules_go_before_chains_and_the_policy_comes_back() -> None:
    now = [
        "-P INPUT ACCEPT",
        "-P FORWARD DROP",
        "-N OURS",
        "-N DOCKER",
        "-N DOCKER-USER",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -o br-0123456789ab -j DOCKER",
        "-A FORWARD -j OURS",
    ]
    assert host_state.undo_commands(BEFORE, now) == [
        ["-D", "FORWARD", "-j", "DOCKER-USER"],
        ["-D", "FORWARD", "-o", "br-0123456789ab", "-j", "DOCKER"],
        ["-F", "DOCKER"],
        ["-F", "DOCKER-USER"],
        ["-X", "DOCKER"],
        ["-X", "DOCKER-USER"],
        ["-P", "FORWARD", "ACCEPT"],
    ]


def test_a_rule_that_something_else_added_since_stays() -> None:
    now = [*BEFORE, '-A INPUT -m comment --comment "my vpn" -j ACCEPT']
    assert host_state.undo_commands(BEFORE, now) == []
