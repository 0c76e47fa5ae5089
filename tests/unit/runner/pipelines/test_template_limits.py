"""A template's expression may not cost more than a prompt is worth."""

from __future__ import annotations

import pytest

from kubesynth_runner.pipelines.base import StageFailure
from kubesynth_runner.pipelines.templates import PromptTemplate


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ 9 ** 100000000 }}", id="power"),
        pytest.param("{{ 'a' * 1000000000 }}", id="repeated-text"),
        pytest.param("{{ 1000000000 * 'a' }}", id="repeated-text-the-other-way-round"),
        pytest.param("{{ [0] * 1000000000 }}", id="repeated-list"),
    ],
)
def test_costly_expression_fails_the_record_at_once(template: str) -> None:
    compiled = PromptTemplate.compile(template)
    with pytest.raises(StageFailure, match="cannot be rendered"):
        compiled.render({})


def test_ordinary_arithmetic_works() -> None:
    (message,) = PromptTemplate.compile("{{ 2 ** 10 }} {{ 'ab' * 3 }}").render({})
    assert message.content == "1024 ababab"
