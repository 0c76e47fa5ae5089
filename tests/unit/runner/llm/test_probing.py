from __future__ import annotations

import pytest

from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.llm.probing import is_constrained, not_served


@pytest.mark.parametrize(
    ("text", "finish_reason", "constrained"),
    [
        pytest.param('{"ok": [true]}', "stop", True, id="document"),
        pytest.param('{"ok": [true]}\n\n', "length", True, id="padded-to-the-limit"),
        pytest.param('{ "ok":\n  [tr', "length", True, id="cut-off"),
        pytest.param('{"o', "length", True, id="cut-off-in-the-key"),
        pytest.param('{"ok": [true, false]}', "stop", True, id="bounds-not-minded"),
        pytest.param('{"ok": [true, true, fal', "length", True, id="bounds-not-minded-cut-off"),
        pytest.param('{"ok": true}', "stop", False, id="another-schema"),
        pytest.param('{"ok": ["yes"]}', "stop", False, id="other-items"),
        pytest.param('{"ok": [truth', "length", False, id="other-items-cut-off"),
        pytest.param('{"o', "stop", False, id="broken-without-reason"),
        pytest.param('{"sky": "blue"}', "stop", False, id="json-of-its-own-making"),
        pytest.param("[true]", "stop", False, id="other-json"),
        pytest.param("Yes, the sky is blue.", "length", False, id="prose"),
        pytest.param("", "length", False, id="nothing"),
    ],
)
def test_constrained_answer_is_told_from_a_free_one(
    text: str, finish_reason: str, constrained: bool
) -> None:
    completion = Completion(text, finish_reason, TokenUsage(), "m")
    assert is_constrained(completion) is constrained


def test_unserved_model_is_answered_with_what_is_served() -> None:
    error = not_served("lama", ("llama", "qwen"), "http://host/v1")
    assert str(error) == "http://host/v1 does not serve the model 'lama'; it serves llama, qwen"
