"""What a real vLLM 0.24.0 has answered, on a GPU, read by the client's own parsers.

The replies are in tests/data/engines, one a line, each with the request that it answers. Their
models are SmolLM2-135M-Instruct, and that model with a score head of one and of three labels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubesynth_runner.llm import probing, score_wire, wire
from kubesynth_runner.llm.base import Completion, CompletionRequest, Message
from kubesynth_runner.llm.classify import classify
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.score_wire import Api
from kubesynth_testing import fake_replies
from kubesynth_testing.fake_rewards import FakeScores

FILE = Path(__file__).parents[3] / "data" / "engines" / "vllm-0.24.0-replies.jsonl"
REPLIES: dict[str, Any] = {
    reply["name"]: reply for reply in map(json.loads, FILE.read_text().splitlines())
}
DIALOGUE = (Message("user", "Is the sky blue?"), Message("assistant", "Yes, on a clear day."))


def body(name: str) -> bytes:
    assert REPLIES[name]["status"] == 200
    return json.dumps(REPLIES[name]["body"]).encode()


def completion(name: str) -> Completion:
    return wire.decode_completion(body(name))


def test_text_usage_and_model() -> None:
    found = completion("chat")
    assert (found.text, found.finish_reason) == ("The capital of France is Paris.", "stop")
    assert found.model == "/models/smollm2-135m-instruct"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (42, 8)
    assert (found.reasoning, found.refusal, found.logprobs, found.others) == (None, None, None, ())
    assert wire.decode_models(body("GET /v1/models")) == (found.model,)


def test_every_sampling_field_is_taken() -> None:
    request = REPLIES["every sampling field"]["request"]
    assert {"min_p", "top_k", "repetition_penalty", "logit_bias", "reasoning_effort"} <= set(
        request
    )
    found = completion("every sampling field")
    assert len(found.others) + 1 == request["n"] == 2
    assert found.logprobs is not None
    assert found.logprobs.top is not None


def test_choices() -> None:
    found = completion("n")
    texts = [found.text, *(other.text for other in found.others)]
    assert len(set(texts)) == REPLIES["n"]["request"]["n"] == 3


def test_logprobs_of_every_token() -> None:
    found = completion("logprobs").logprobs
    assert found is not None
    assert found.tokens == ["The", " capital", " of", " France"]
    assert found.top is not None
    assert all(place[0] == pair for place, pair in zip(found.top, _pairs(found), strict=True))
    assert [len(place) for place in found.top] == [3, 3, 3, 3]


def _pairs(found: Any) -> list[tuple[str, float]]:
    return list(zip(found.tokens, found.logprobs, strict=True))


def test_schema_is_enforced() -> None:
    assert len(json.loads(completion("json_schema").text)["cities"]) == 3
    assert completion("json_schema cut off").finish_reason == "length"
    assert json.loads(completion("schema of one boolean").text) == {"ok": False}
    assert completion("structured_outputs choice").text == "Paris"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("reasoning cut off", "cut off while the model was still reasoning; raise maxTokens"),
        ("reasoning without text", "the completion is empty"),
        ("empty completion", "the completion is empty"),
    ],
)
def test_answers_without_text(name: str, words: str) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        completion(name)
    assert caught.value.kind is ErrorKind.EMPTY_COMPLETION


def test_probe_of_a_reasoning_model_takes_no_text_for_a_yes() -> None:
    with pytest.raises(ClientError) as caught:
        completion("reasoning probe")
    assert probing.was_cut_off(caught.value)


KINDS = {
    "overflow prompt": ErrorKind.CONTEXT_OVERFLOW,
    "overflow max_tokens": ErrorKind.CONTEXT_OVERFLOW,
    "reward Score overflow": ErrorKind.CONTEXT_OVERFLOW,
    "reward Pooling overflow": ErrorKind.CONTEXT_OVERFLOW,
    "reward Classify overflow": ErrorKind.CONTEXT_OVERFLOW,
    "unknown model": ErrorKind.MODEL_NOT_FOUND,
    "reward Score unknown model": ErrorKind.MODEL_NOT_FOUND,
    "reward Pooling unknown model": ErrorKind.MODEL_NOT_FOUND,
    "reward Classify unknown model": ErrorKind.MODEL_NOT_FOUND,
    "chat model Score": ErrorKind.MODEL_NOT_FOUND,
    "classes Score": ErrorKind.MODEL_NOT_FOUND,
    "reward chat": ErrorKind.MODEL_NOT_FOUND,
    "classes chat": ErrorKind.MODEL_NOT_FOUND,
    "GET /v1/nothing": ErrorKind.MODEL_NOT_FOUND,
    "GET chat": ErrorKind.MODEL_NOT_FOUND,
    "no key": ErrorKind.AUTHENTICATION,
    "no key models": ErrorKind.AUTHENTICATION,
    "json_schema invalid": ErrorKind.SCHEMA_REFUSED,
    "n when greedy": ErrorKind.BAD_REQUEST,
    "temperature negative": ErrorKind.BAD_REQUEST,
    "wrong type": ErrorKind.BAD_REQUEST,
    "logit_bias out of vocabulary": ErrorKind.BAD_REQUEST,
    "empty messages": ErrorKind.BAD_REQUEST,
    "reward Pooling embed": ErrorKind.BAD_REQUEST,
    "classes Pooling token_classify": ErrorKind.BAD_REQUEST,
}


def test_every_refusal_is_understood() -> None:
    refused = {name: reply for name, reply in REPLIES.items() if reply["status"] != 200}
    found = {
        name: classify(reply["status"], json.dumps(reply["body"])).kind
        for name, reply in refused.items()
    }
    assert found == KINDS


def test_refusal_says_which_api_is_missing() -> None:
    reply = REPLIES["classes Score"]
    said = classify(reply["status"], json.dumps(reply["body"]), "/score").message
    assert said == "HTTP 404: no such model, or no /score API at this url: Not Found"


@pytest.mark.parametrize(
    ("name", "api", "text"),
    [
        ("reward Score", "Score", "score:0.732440710067749"),
        ("reward Pooling classify", "Pooling", "score:0.5185731649398804"),
        (
            "classes Classify",
            "Classify",
            "class_0:0.17666590213775635,class_1:0.0751393586397171,class_2:0.7481947541236877",
        ),
        ("classes Pooling", "Pooling", "a vector of 3 numbers, where a reward model gives one"),
        ("reward Pooling base64", "Pooling", "no numbers"),
    ],
)
def test_numbers_of_reward_models(name: str, api: Api, text: str) -> None:
    found = score_wire.decode(body(name), api)
    assert found.text == text
    assert found.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("name", "api"),
    [("reward Score", "Score"), ("classes Pooling", "Pooling"), ("classes Classify", "Classify")],
)
def test_requests_for_numbers_are_those_that_were_answered(name: str, api: Api) -> None:
    reply = REPLIES[name]
    model = reply["body"]["model"]
    sent = json.loads(score_wire.encode_request(model, CompletionRequest(DIALOGUE), api))
    assert sent == reply["request"]
    assert score_wire.url("http://llm:8000/v1", api) == f"http://llm:8000{reply['path']}"


def shape(value: Any) -> Any:
    """Return names and types; of a list its first item's."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return type(value).__name__


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/score", "reward Score"),
        ("/pooling", "reward Pooling classify"),
        ("/classify", "classes Classify"),
    ],
)
def test_fake_reward_model_answers_in_the_same_shape(path: str, name: str) -> None:
    assert shape(FakeScores.reply(path, 0.5)) == shape(REPLIES[name]["body"])


def test_fake_chat_model_answers_in_the_same_shape() -> None:
    """It may leave out what the client does not read, and has nothing that vLLM has otherwise."""
    for name in ("chat", "logprobs", "n"):
        fake = fake_replies.complete(REPLIES[name]["request"])
        assert _missing(shape(fake), shape(REPLIES[name]["body"])) == set()


def _missing(fake: Any, real: Any, path: str = "") -> set[str]:
    """Return where a fake has what the real answer has not, or has otherwise."""
    if isinstance(fake, dict) and isinstance(real, dict):
        return {
            place
            for name, value in fake.items()
            for place in _missing(value, real.get(name), f"{path}/{name}")
        }
    if isinstance(fake, list) and isinstance(real, list):
        return {place for item in fake for place in _missing(item, real[0], path)}
    return set() if fake in (real, "NoneType") else {path}
