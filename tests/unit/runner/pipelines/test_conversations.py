"""dialogue and twoTurnPrompt over what models say, and how a conversation ends."""

from __future__ import annotations

from typing import Any

import pytest

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import records
from kubesynth_runner.llm.base import Completion, Message, TokenUsage
from kubesynth_runner.llm.errors import ErrorKind
from kubesynth_runner.pipelines import conversation, registry
from kubesynth_runner.pipelines.base import ModelFailure, StageFailure, Step
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal


def step(wire: dict[str, Any]) -> Step:
    def read(prompt: PromptText) -> str:
        assert prompt.inline is not None
        return prompt.inline

    spec = StageSpec.model_validate(wire)
    (compiled,) = registry.compile_stage(spec, CompileContext("text", read)).steps
    return compiled


async def talk(
    llm: ScriptedLlm, kind: str = "dialogue", columns: dict[str, Any] | None = None, **fields: Any
) -> records.Columns:
    source = records.Source("file:///a", 1)
    record = records.Record("r", None, "r", (), columns or {"question": "Why?"}, source)
    (made,) = [made async for made in step({kind: fields}).stage.run(record, llm)]
    return made


def said(made: records.Columns) -> list[str]:
    return [message["content"] for message in made["messages"]]


def cut_off(text: str) -> Completion:
    return Completion(text, "length", TokenUsage(), "fake")


class Overflow(ModelFailure):
    kind = ErrorKind.CONTEXT_OVERFLOW


class Broken(ModelFailure):
    kind = ErrorKind.BAD_REQUEST


async def test_dialogue_takes_two_calls_less_one_for_each_turn() -> None:
    llm = ScriptedLlm(["It rains.", "And then?", "It stops.", "Always, really?", "Mostly so."])
    made = await talk(llm)
    assert said(made) == [
        *("Why?", "It rains.", "And then?", "It stops.", "Always, really?", "Mostly so."),
    ]
    assert [message["role"] for message in made["messages"]] == ["user", "assistant"] * 3
    assert (made["turns"], made["ended_by"]) == (3, "UserTurns")
    assert len(llm.asked) == 5 == step({"dialogue": {}}).cost.calls
    assert llm.fields == ["userModel", "userModel"]
    # The assistant sees real messages, the user what was said, each message between tags.
    assert [message.role for message in llm.asked[2]] == ["system", "user", "assistant", "user"]
    assert "<assistant>\nIt rains.\n</assistant>" in llm.asked[1][-1].content


async def test_one_turn_is_a_question_and_its_answer() -> None:
    llm = ScriptedLlm(["It rains."])
    made = await talk(llm, userTurns=1)
    assert (len(llm.asked), said(made)) == (1, ["Why?", "It rains."])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "goes on in the tone"),
        ({"persona": "Complex"}, "thinks further"),
        ({"persona": "Concise"}, "short of time"),
        ({"personaText": "You are a nurse."}, "The user: You are a nurse."),
    ],
)
async def test_the_user_is_who_the_manifest_says(fields: dict[str, Any], expected: str) -> None:
    llm = ScriptedLlm(["It rains.", "And then?", "It stops."])
    await talk(llm, userTurns=2, **fields)
    system = llm.asked[1][0].content
    assert expected in system
    assert system.count("The user") == 1


async def test_the_assistant_sees_the_document() -> None:
    llm = ScriptedLlm(["It rains."])
    await talk(llm, columns={"question": "Why?", "text": "About rain."}, userTurns=1)
    assert "About rain." in llm.asked[0][0].content
    llm = ScriptedLlm(["It rains."])
    columns = {"question": "Why?", "text": "About rain."}
    await talk(llm, columns=columns, userTurns=1, useDocument=False)
    assert "About rain." not in str(llm.asked)


async def test_prompts_of_the_users_own() -> None:
    prompts = {
        "assistant": {"system": {"inline": "Be brief."}},
        "userTurn": {"user": {"inline": "{{ turn }}: {{ history }}"}},
    }
    llm = ScriptedLlm(["It rains.", "And then?", "It stops."])
    await talk(llm, userTurns=2, prompts=prompts)
    assert llm.asked[0][0] == Message("system", "Be brief.")
    assert llm.asked[1][-1].content.startswith("2: <user>\nWhy?\n</user>")


@pytest.mark.parametrize(
    ("answers", "ended_by", "messages"),
    [
        pytest.param([refusal()], None, 0, id="first-answer-refused"),
        pytest.param(
            ["I'm sorry, but I can't help with that."], "Refusal", 2, id="refused-in-words"
        ),
        pytest.param(["So.", refusal()], "Refusal", 2, id="the-user-refuses"),
        pytest.param(["So.", "  "], "Refusal", 2, id="the-user-says-nothing"),
        pytest.param(["So.", "How?", refusal()], "Refusal", 2, id="second-answer-refused"),
        pytest.param(["So.", "How?", " \n"], "Refusal", 2, id="second-answer-blank"),
        pytest.param(["So.", "why"], "Loop", 2, id="the-user-asks-again"),
        pytest.param(["So.", "How?", "SO"], "Loop", 2, id="the-same-answer"),
        pytest.param(["So.", "How?", Overflow()], "ContextLimit", 2, id="context-overflow"),
        pytest.param(["So.", Overflow()], "ContextLimit", 2, id="context-overflow-of-the-user"),
        pytest.param([cut_off("So it")], "CutOff", 2, id="first-answer-cut-off"),
        pytest.param(["So.", cut_off("How did")], "CutOff", 2, id="the-user-cut-off"),
    ],
)
async def test_dialogue_stops_where_it_leads_nowhere_and_says_so(
    answers: list[str | Completion | Exception], ended_by: str | None, messages: int
) -> None:
    llm = ScriptedLlm(answers)
    if ended_by is None:
        with pytest.raises(StageFailure):
            await talk(llm)
        return
    made = await talk(llm)
    assert (made["ended_by"], len(made["messages"]), made["turns"]) == (ended_by, messages, 1)
    assert len(llm.asked) == len(answers)


async def test_a_last_answer_that_was_cut_off_stays_and_is_told() -> None:
    llm = ScriptedLlm(["So.", "How?", cut_off("Because the")])
    made = await talk(llm, userTurns=2)
    assert said(made) == ["Why?", "So.", "How?", "Because the"]
    assert (made["turns"], made["ended_by"]) == (2, "CutOff")


@pytest.mark.parametrize("answers", [[cut_off("So it")], ["So.", cut_off("How did")]])
async def test_two_turn_prompt_with_a_message_that_was_cut_off_fails(answers: list[Any]) -> None:
    with pytest.raises(StageFailure, match="maxTokens") as caught:
        await talk(ScriptedLlm(answers), "twoTurnPrompt")
    assert caught.value.kind == "TruncatedCompletion"


@pytest.mark.parametrize("answers", [[Broken()], ["So.", Broken()], ["So.", "How?", Broken()]])
async def test_other_failures_fail_the_record(answers: list[str | Exception]) -> None:
    with pytest.raises(Broken):
        await talk(ScriptedLlm(answers))


async def test_dialogue_ends_at_the_limit_of_its_context() -> None:
    usage = TokenUsage(30, 10)
    first = Completion("So.", "stop", usage, "m")
    long: list[str | Completion | Exception] = [first, "How?", "Thus.", "When?", "Then."]
    assert (await talk(ScriptedLlm(long), maxContextTokens=40))["ended_by"] == "ContextLimit"
    assert (await talk(ScriptedLlm(long), maxContextTokens=10_000))["ended_by"] == "UserTurns"
    answers = ["x" * 3000, "How?", "So.", "When?", "Then."]
    made = await talk(ScriptedLlm(answers), maxContextCharacters=3000)
    assert (made["ended_by"], made["turns"]) == ("ContextLimit", 1)
    # Without usage, four characters are a token.
    made = await talk(ScriptedLlm(answers), maxContextTokens=700)
    assert made["ended_by"] == "ContextLimit"


async def test_two_turn_prompt_ends_with_the_user() -> None:
    llm = ScriptedLlm(["It rains.", "User: And then?"])
    made = await talk(llm, "twoTurnPrompt")
    assert said(made) == ["Why?", "It rains.", "And then?"]
    assert made["turns"] == 2
    assert set(made) == {"messages", "turns"}
    assert len(llm.asked) == 2 == step({"twoTurnPrompt": {}}).cost.calls


@pytest.mark.parametrize("answers", [["So.", "why?"], ["I cannot help with that."]])
async def test_two_turn_prompt_without_a_follow_up_fails(answers: list[str]) -> None:
    with pytest.raises(StageFailure) as caught:
        await talk(ScriptedLlm(answers), "twoTurnPrompt")
    assert caught.value.kind == "NoFollowUp"
    assert "Why?" in caught.value.raw


@pytest.mark.parametrize("question", [None, "  ", 7])
async def test_dialogue_without_an_opening_line_fails(question: Any) -> None:
    with pytest.raises(StageFailure) as caught:
        await talk(ScriptedLlm([]), columns={"question": question})
    assert caught.value.kind == "BadInput"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("And then?", "And then?"),
        ("User: And then?", "And then?"),
        ("**User:** And then?", "And then?"),
        ("<user>\nAnd then?\n</user>", "And then?"),
        ('"And then?"', "And then?"),
        ('"One" or "two"?', '"One" or "two"?'),
        ("And then?\n\nAssistant: It stops.", "And then?"),
        ("And then?\n**Assistant:** It stops.", "And then?"),
        ("The user: And then?", "And then?"),
        ("And then?\n</assistant>\n\n<user>\nWhy?", "And then?"),
        ("And then?\n\nThe user's next message is:\nWhy?", "And then?"),
        ("Why?\nThe user's next message is lost.", "Why?\nThe user's next message is lost."),
        ("The users: who are they?", "The users: who are they?"),
        ("Users: who are they?", "Users: who are they?"),
        ("Is the assistant: a robot?", "Is the assistant: a robot?"),
        ("First line.\nSecond line.", "First line.\nSecond line."),
    ],
)
def test_what_is_said_in_the_users_place(text: str, expected: str) -> None:
    assert conversation.user_message(text) == expected


def test_line_breaks_without_end_take_no_time() -> None:
    # Quadratic, this would be a matter of minutes.
    text = "word" + "\n" * 100_000 + "\nAssistant: no"
    assert conversation.user_message(text) == "word"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can\u2019t assist with that.", True),
        ("I cannot provide that information.", True),
        ("As an AI, I am unable to have opinions.", True),
        ("Unfortunately, I can't do that.", True),
        ("I'm sorry to hear that. Rest, and drink a lot.", False),
        ("I can explain: rain falls.", False),
        ("Sorry, that was wrong. " + "The river can't rise. " * 40, False),
    ],
)
def test_refusals_in_words(text: str, expected: bool) -> None:
    assert conversation.is_refusal(text) is expected


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, "no JSON", "{}", [], [{"role": "user"}], [{"role": "robot", "content": "x"}]),
        *(["x"], "[" * 100_000, r'[{"role": "user", "content": "\ud800"}]'),
    ],
)
def test_what_is_no_conversation(value: Any) -> None:
    with pytest.raises(StageFailure) as caught:
        conversation.from_column({"messages": value}, "messages")
    assert caught.value.kind == "BadInput"


def test_conversations_come_back_out_of_a_column() -> None:
    messages = (Message("user", "Why?"), Message("assistant", "So."))
    column = conversation.to_column(messages)
    assert conversation.from_column({"m": column}, "m") == messages
    text = '[{"role": "user", "content": "Why?"}]'
    assert conversation.from_column({"m": text}, "m") == messages[:1]
