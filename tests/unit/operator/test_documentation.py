"""The documentation speaks of every reason and setting that there is."""

from __future__ import annotations

import re
from pathlib import Path

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_operator import settings

DOCS = Path(__file__).parents[3] / "docs"


def test_the_runbook_says_what_to_do_about_every_reason() -> None:
    words = set(re.findall(r"\w+", (DOCS / "runbook.md").read_text()))
    assert {reason.value for reason in Reason} <= words


def test_the_operator_s_page_lists_every_condition_and_variable() -> None:
    text = (DOCS / "operator.md").read_text()
    for kind in ConditionType:
        assert f"`{kind.value}`" in text
    source = Path(settings.__file__).read_text()
    for variable in set(re.findall(r"KUBESYNTH_[A-Z_]+", source)):
        assert f"`{variable}`" in text
