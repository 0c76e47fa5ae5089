from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from kubesynth_runner.llm.base import CompletionRequest, JsonSchemaFormat, Message, TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.wire import (
    decode_completion,
    decode_models,
    encode_request,
    split_reasoning,
)

USAGE = {"prompt_tokens": 300, "completion_tokens": 16}
MESSAGES = (Message("system", "Be brief."), Message("user", "Hi"))


def _body(
    message: dict[str, Any] | None, finish_reason: str | None = "stop", **fields: Any
) -> bytes:
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return json.dumps({"choices": [choice], "model": "m", **fields}).encode()


def _kind_of(body: bytes) -> ErrorKind:
    with pytest.raises(ClientError) as caught:
        decode_completion(body)
    return caught.value.kind


def test_equal_requests_are_equal_bytes_whatever_the_order_of_their_fields() -> None:
    one = CompletionRequest(
        MESSAGES, {"temperature": 0.5, "logit_bias": {"2": 1, "1": 2}}, None, {"b": 1, "a": 2}
    )
    two = CompletionRequest(
        MESSAGES, {"logit_bias": {"1": 2, "2": 1}, "temperature": 0.5}, None, {"a": 2, "b": 1}
    )
    assert encode_request("m", one) == encode_request("m", two)


def test_request_has_the_fields_of_the_api() -> None:
    request = CompletionRequest(MESSAGES, {"max_tokens": 5}, JsonSchemaFormat("f", {"type": "x"}))
    assert json.loads(encode_request("m", request)) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "max_tokens": 5,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "f", "schema": {"type": "x"}},
        },
    }


def test_extra_body_wins_over_everything() -> None:
    request = CompletionRequest(
        MESSAGES,
        {"temperature": 1},
        JsonSchemaFormat("f", {}),
        {"temperature": 0, "response_format": {"type": "json_object"}, "model": "other"},
    )
    body = json.loads(encode_request("m", request))
    assert (body["temperature"], body["response_format"], body["model"]) == (
        0,
        {"type": "json_object"},
        "other",
    )


def test_schema_keeps_the_order_of_its_properties() -> None:
    schema = {"type": "object", "properties": {"reasoning": {}, "answer": {}}}
    body = encode_request("m", CompletionRequest(MESSAGES, {}, JsonSchemaFormat("f", schema)))
    assert body.index(b'"reasoning"') < body.index(b'"answer"')


def test_half_a_surrogate_pair_is_a_bad_request() -> None:
    with pytest.raises(ClientError) as caught:
        encode_request("m", CompletionRequest((Message("user", "\ud83d"),)))
    assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_strict_is_said_or_left_out_for_false_may_turn_constraints_off() -> None:
    wanted = JsonSchemaFormat("f", {"type": "x"}, strict=True)
    body = json.loads(encode_request("m", CompletionRequest(MESSAGES, {}, wanted)))
    assert body["response_format"]["json_schema"]["strict"] is True


def test_completion_is_the_first_choice() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "details": {"x": None}}
    completion = decode_completion(_body({"content": "Hello."}, "length", usage=usage))
    assert (completion.text, completion.finish_reason, completion.model) == (
        "Hello.",
        "length",
        "m",
    )
    assert completion.usage == TokenUsage(3, 4)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="missing"),
        pytest.param({"usage": None}, id="null"),
        pytest.param({"usage": {}}, id="empty"),
        pytest.param({"usage": {"prompt_tokens": None, "completion_tokens": -1}}, id="odd"),
        pytest.param({"usage": {"prompt_tokens": "many", "completion_tokens": 1}}, id="text"),
        pytest.param({"usage": {"prompt_tokens": 1.5}}, id="fraction"),
        pytest.param({"usage": [1, 2]}, id="list"),
    ],
)
def test_absent_usage_counts_zero(fields: dict[str, Any]) -> None:
    assert decode_completion(_body({"content": "x"}, **fields)).usage == TokenUsage(0, 0)


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        pytest.param({"content": "4", "reasoning_content": "2+2"}, "2+2", id="reasoning_content"),
        pytest.param({"content": "4", "reasoning": "2+2"}, "2+2", id="reasoning"),
        pytest.param({"content": "<think>\n2+2\n</think>\n\n4"}, "2+2", id="think-block"),
        pytest.param({"content": "2+2\n</think>\n\n4"}, "2+2", id="template-opened-the-block"),
        pytest.param({"content": "<think>\n\n</think>\n\n4"}, None, id="empty-block"),
        pytest.param({"content": "4"}, None, id="none"),
        pytest.param(
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]},
                    {"type": "text", "text": "4"},
                ]
            },
            "2+2",
            id="parts",
        ),
    ],
)
def test_reasoning_is_kept_apart(message: dict[str, Any], reasoning: str | None) -> None:
    completion = decode_completion(_body(message))
    assert (completion.text, completion.reasoning) == ("4", reasoning)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param("A <think> tag is written <think>...</think>.", None, id="inside-the-text"),
        pytest.param("  leading space stays", None, id="space"),
        pytest.param("<think>cut off", "", id="cut-off"),
    ],
)
def test_only_a_block_at_the_start_is_reasoning(content: str, text: str | None) -> None:
    assert split_reasoning(content)[0] == (content if text is None else text)


def test_refusal_is_a_completion() -> None:
    completion = decode_completion(_body({"content": None, "refusal": "I can't help with that."}))
    assert (completion.text, completion.refusal) == ("", "I can't help with that.")


@pytest.mark.parametrize("content", ["", "The first half of"])
def test_content_filter_is_a_refusal(content: str) -> None:
    completion = decode_completion(_body({"content": content}, "content_filter"))
    assert completion.refusal == "the server's content filter stopped the completion"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(_body({"content": None}), id="null-content"),
        pytest.param(_body({"content": " \n"}), id="blank-content"),
        pytest.param(_body({"content": "<think>and so on"}, "length"), id="all-reasoning"),
        pytest.param(b'{"choices": []}', id="no-choices"),
    ],
)
def test_answer_without_words_is_empty(body: bytes) -> None:
    assert _kind_of(body) is ErrorKind.EMPTY_COMPLETION


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b'{"choices": [{"mess', id="cut-off"),
        pytest.param(b"{}", id="no-choices-field"),
        pytest.param(b'{"choices": [{"finish_reason": "stop"}]}', id="no-message"),
        pytest.param(b'{"choices": "x"}', id="wrong-type"),
        pytest.param(b'{"choices": [{"message": {"content": "\xff"}}]}', id="no-utf8"),
        pytest.param(b"[]", id="array"),
    ],
)
def test_answer_that_is_no_completion_is_malformed(body: bytes) -> None:
    assert _kind_of(body) is ErrorKind.MALFORMED_RESPONSE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param({"message": "x", "code": 429}, ErrorKind.RATE_LIMITED, id="its-own-status"),
        pytest.param({"message": "x", "code": "busy"}, ErrorKind.SERVER_ERROR, id="no-status"),
        pytest.param("x", ErrorKind.SERVER_ERROR, id="text"),
    ],
)
def test_error_in_a_200_answer_is_classified(error: object, kind: ErrorKind) -> None:
    assert _kind_of(msgspec.json.encode({"error": error})) is kind


def test_cut_off_reasoning_says_to_raise_max_tokens() -> None:
    with pytest.raises(ClientError, match="still reasoning; raise maxTokens"):
        decode_completion(_body({"content": "", "reasoning_content": "hm"}, "length"))


@pytest.mark.parametrize(
    ("body", "may_pass"),
    [
        pytest.param(_body({"content": ""}, "length", usage=USAGE), False, id="cut-off"),
        pytest.param(_body({"content": None}, usage=USAGE), True, id="nothing-said"),
        pytest.param(_body(None, usage=USAGE), True, id="no-message"),
        pytest.param(json.dumps({"choices": [], "usage": USAGE}).encode(), True, id="no-choices"),
    ],
)
def test_answer_of_no_use_tells_what_it_took_and_whether_another_may_be_better(
    body: bytes, may_pass: bool
) -> None:
    with pytest.raises(ClientError) as caught:
        decode_completion(body)
    assert caught.value.answer is not None
    assert caught.value.answer.usage == TokenUsage(300, 16)
    assert caught.value.may_pass is may_pass


def test_one_choice_that_was_not_cut_off_may_be_better_another_time() -> None:
    choices = [
        {"message": {"content": ""}, "finish_reason": reason} for reason in ("length", "stop")
    ]
    with pytest.raises(ClientError) as caught:
        decode_completion(json.dumps({"choices": choices}).encode())
    assert caught.value.may_pass


def test_model_list_is_read_and_anything_else_is_none() -> None:
    assert decode_models(b'{"object": "list", "data": [{"id": "a"}, {"id": "b"}]}') == ("a", "b")
    assert decode_models(b"not json") == ()
    assert decode_models(b'{"models": []}') == ()


def _choices(*messages: dict[str, Any], **fields: Any) -> bytes:
    choices = [
        {"index": index, "finish_reason": "stop", "message": message, **fields}
        for index, message in enumerate(messages)
    ]
    return json.dumps({"choices": choices, "model": "m"}).encode()


def test_every_choice_is_read() -> None:
    completion = decode_completion(
        _choices({"content": "a"}, {"content": "<think>t</think>b"}, {"refusal": "no"})
    )
    assert completion.text == "a"
    assert [choice.text for choice in completion.others] == ["b", ""]
    assert [choice.reasoning for choice in completion.others] == ["t", None]
    assert completion.others[1].refusal == "no"


def test_blank_choices_beside_one_that_says_something_are_no_failure() -> None:
    completion = decode_completion(_choices({"content": ""}, {"content": "b"}))
    assert (completion.text, completion.others[0].text) == ("", "b")
    assert _kind_of(_choices({"content": ""}, {"content": " "})) is ErrorKind.EMPTY_COMPLETION


def test_log_probabilities_are_rounded_and_kept_apart_from_bytes() -> None:
    content = [
        {
            "token": "So",
            "logprob": -0.123456,
            "bytes": [83],
            "top_logprobs": [{"token": "Or", "logprob": -1.00004, "bytes": None}],
        },
        {"token": ".", "logprob": -9999.0},
    ]
    logprobs = decode_completion(
        _choices({"content": "So."}, logprobs={"content": content})
    ).logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.logprobs) == (["So", "."], [-0.1235, -9999.0])
    assert logprobs.top == [[("Or", -1.0)], []]
    assert decode_completion(_choices({"content": "a"}, logprobs=None)).logprobs is None


@pytest.mark.parametrize(
    ("content", "text", "reasoning"),
    [
        pytest.param("<think>a</think>\n<think>b</think>\nc", "c", "a\n\nb", id="two-blocks"),
        pytest.param("[THINK]a[/THINK]b", "b", "a", id="magistral"),
        pytest.param("[THINK]a", "", "a", id="cut-off"),
        pytest.param("Say [THINK]a[/THINK]", "Say [THINK]a[/THINK]", None, id="in-the-text"),
        pytest.param("a</think><think>b</think>c", "c", "a\n\nb", id="opened-by-the-template"),
    ],
)
def test_blocks_of_reasoning_are_taken_off(content: str, text: str, reasoning: str | None) -> None:
    assert split_reasoning(content) == (text, reasoning)


@pytest.mark.timeout(5)
def test_a_loop_of_empty_thoughts_is_read_at_once() -> None:
    assert split_reasoning("<think></think>\n" * 100_000 + "So.") == ("So.", None)


@pytest.mark.parametrize("content", ["", None, "Half a sent"])
def test_completion_that_the_server_gave_up_is_none_whatever_there_is_of_it(
    content: str | None,
) -> None:
    with pytest.raises(ClientError, match="finish_reason abort") as caught:
        decode_completion(_body({"content": content}, "abort", usage=USAGE))
    assert caught.value.kind is ErrorKind.OVERLOADED
    assert caught.value.answer is not None
    assert caught.value.answer.usage == TokenUsage(300, 16), "it is paid for all the same"


def test_one_choice_that_was_given_up_spoils_the_others() -> None:
    choices = [
        {"message": {"content": "Yes."}, "finish_reason": reason} for reason in ("stop", "abort")
    ]
    assert _kind_of(json.dumps({"choices": choices}).encode()) is ErrorKind.OVERLOADED
