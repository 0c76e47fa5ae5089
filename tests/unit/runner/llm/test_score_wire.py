"""Requests to vLLM's APIs for scores, and their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_runner.llm import score_wire
from kubesynth_runner.llm.base import CompletionRequest, Message
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.score_wire import Api
from kubesynth_runner.pipelines import rewards
from kubesynth_runner.pipelines.base import StageFailure

ASKED = (Message("user", "Why?"), Message("assistant", "It rains."))
TURNS = (Message("system", "Be short."), Message("user", "Hi"), *ASKED)


def body(request: CompletionRequest, api: Api) -> Any:
    return json.loads(score_wire.encode_request("m", request, api))


def test_texts_are_compared_and_conversations_are_read() -> None:
    request = CompletionRequest(ASKED, {"seed": 1, "temperature": 0.5}, None, {"priority": 3})
    assert body(request, "Score") == {
        "model": "m",
        "text_1": "Why?",
        "text_2": "It rains.",
        "priority": 3,
    }
    messages = [{"role": m.role, "content": m.content} for m in ASKED]
    for api in ("Pooling", "Classify"):
        assert body(request, api) == {"model": "m", "messages": messages, "priority": 3}
    several = body(CompletionRequest(TURNS), "Score")
    assert several["text_1"] == "system: Be short.\n\nuser: Hi\n\nuser: Why?"


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://llm:8000/v1", "http://llm:8000/score"),
        ("https://gateway/team/v1", "https://gateway/team/score"),
        ("http://llm:8000", "http://llm:8000/score"),
    ],
)
def test_apis_lie_beside_v1(base: str, url: str) -> None:
    assert score_wire.url(base, "Score") == url


@pytest.mark.parametrize(
    ("api", "entry", "scores"),
    [
        ("Score", {"object": "score", "score": -1.25}, {"score": -1.25}),
        ("Pooling", {"data": [0.123456789]}, {"score": 0.123456789}),
        ("Pooling", {"data": [[0.5], [0.25]]}, {"score": 0.25}),
        ("Classify", {"label": None, "probs": [0.9], "num_classes": 1}, {"score": 0.9}),
        ("Classify", {"probs": [0.1, 0.9]}, {"class_0": 0.1, "class_1": 0.9}),
    ],
)
def test_numbers_are_read(api: Api, entry: dict[str, Any], scores: dict[str, float]) -> None:
    answer = {"model": "m", "data": [{"index": 0, **entry}], "usage": {"prompt_tokens": 7}}
    completion = score_wire.decode(json.dumps(answer).encode(), api)
    assert rewards.read(completion) == scores
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 0)


@pytest.mark.parametrize(
    ("api", "entry", "raw"),
    [
        ("Score", {}, "no score"),
        ("Pooling", {"data": [0.1, 0.2, 0.3]}, "a vector of 3 numbers"),
        ("Pooling", {"data": [[0.1, 0.2], [0.3, 0.4]]}, "a vector of 2 numbers"),
        ("Pooling", {"data": "AAAA"}, "no numbers"),
        ("Classify", {"probs": []}, "no probabilities"),
    ],
)
def test_what_is_no_score_fails_the_record(api: Api, entry: dict[str, Any], raw: str) -> None:
    completion = score_wire.decode(json.dumps({"data": [entry]}).encode(), api)
    with pytest.raises(StageFailure) as caught:
        rewards.read(completion)
    assert caught.value.kind == "UnusableScore"
    assert raw in str(caught.value.raw)


@pytest.mark.parametrize("text", ["", "<html>", "{}", '{"data": []}', '{"data": [{}, {}]}'])
def test_garbage_is_the_servers_fault(text: str) -> None:
    with pytest.raises(ClientError) as caught:
        score_wire.decode(text.encode(), "Score")
    assert caught.value.kind is ErrorKind.MALFORMED_RESPONSE
