"""The operator's tests run it with a Role of their own: with the rights that the chart grants."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from kubesynth_testing.operator_process import RULES

Manifest = dict[str, Any]
PARTS = ("apiGroups", "resources", "verbs")


def rights(rules: Iterable[Manifest]) -> set[tuple[str, ...]]:
    """Return the group, resource and verb of all that rules grant."""
    return {right for rule in rules for right in itertools.product(*(rule[part] for part in PARTS))}


def test_tests_of_the_operator_have_exactly_the_rights_that_the_chart_grants(
    render: Callable[..., list[Manifest]],
) -> None:
    """With more of them a right that the chart lacks would be missed; with fewer, one it needs."""
    manifests = render("namespaced=true")
    roles = {m["metadata"]["name"]: m["rules"] for m in manifests if m["kind"] == "Role"}
    assert sorted(roles) == ["kubesynth", "kubesynth-leader-election"]
    granted = [rule for rules in roles.values() for rule in rules]
    assert all(set(rule) == set(PARTS) for rule in (*RULES, *granted)), "no name, no address"
    assert rights(RULES) - rights(granted) == set()
    assert rights(granted) - rights(RULES) == set()
