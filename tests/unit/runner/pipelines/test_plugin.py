"""Stages of the user's own: found, checked, run, and kept from harm."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.pipeline import Stage as StageSpec
from kubesynth_runner import errors, records
from kubesynth_runner.llm.base import Completion, TokenUsage
from kubesynth_runner.pipelines import registry
from kubesynth_runner.pipelines.base import ModelFailure, StageFailure, Step
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_testing.scripted_llm import ScriptedLlm, refusal

EXAMPLE = (Path(__file__).parents[4] / "examples/data/headlines.py").read_text()
BODY = """
from kubesynth_runner.plugin_api import Reject, StagePlugin
class Mine(StagePlugin):
    {fields}
    async def run(self, row, model):
        {body}
        yield {{}}
"""


def source(body: str = "pass", fields: str = "pass") -> str:
    return BODY.format(body=body, fields=fields)


def step(text: str, **wire: Any) -> Step:
    def read(prompt: PromptText) -> str:
        if prompt.inline is not None:
            return prompt.inline
        return text

    reference = {"configMapKeyRef": {"name": "plugins", "key": "a.py"}}
    spec = StageSpec.model_validate({"plugin": {"file": reference, **wire}})
    (compiled,) = registry.compile_stage(spec, CompileContext("text", read)).steps
    return compiled


async def run(compiled: Step, columns: dict[str, Any], llm: ScriptedLlm) -> list[Any]:
    record = records.Record("r", None, "r", (), columns, records.Source("file:///a", 1))
    return [made async for made in compiled.stage.run(record, llm)]


async def test_example_makes_a_record_of_each_headline() -> None:
    compiled = step(EXAMPLE, parameters={"count": 2, "tone": "grim"})
    llm = ScriptedLlm(["1. The mill burns down\n2. Fire!"])
    assert await run(compiled, {"text": "About a mill."}, llm) == [
        {"headline": "Fire!", "characters": 5},
        {"headline": "The mill burns down", "characters": 19},
    ]
    assert "Write 2 grim headlines" in llm.asked[0][-1].content
    assert compiled.stage.columns == {"headline": "string", "characters": "integer"}
    assert compiled.fields == ("model",)


async def test_prompt_is_replaced_by_name() -> None:
    prompts = [{"name": "write", "system": {"inline": "S"}, "user": {"inline": "U {{ text }}"}}]
    llm = ScriptedLlm(["1. A\n2. B"])
    await run(step(EXAMPLE, prompts=prompts), {"text": "t"}, llm)
    assert [message.content for message in llm.asked[0]] == ["S", "U t"]


@pytest.mark.parametrize(
    ("text", "wire", "message"),
    [
        (EXAMPLE, {"parameters": {"count": 0}}, r"parameters\.count: .*greater than or equal to 1"),
        (EXAMPLE, {"parameters": {"size": 1}}, r"parameters\.size: Extra inputs"),
        (EXAMPLE, {"outputColumns": ["title"]}, "Headlines adds characters, headline"),
        (EXAMPLE, {"prompts": [{"name": "ask"}]}, "no prompt 'ask'; there are write"),
        (source(), {"parameters": {"a": 1}}, "Mine has no parameters"),
        (
            source(fields="parameters_model = {'required': ['a']}"),
            {},
            "parameters: 'a' is a required property",
        ),
        ("x = 1", {}, "there are: none"),
        ("def (", {}, "SyntaxError"),
        ("import nothing_of_this_name", {}, "ModuleNotFoundError"),
        ("raise ValueError('no')", {}, "ConfigMap 'plugins', key 'a.py': ValueError: no"),
        (source("pass") + source("pass").replace("Mine", "Yours"), {}, "Mine, Yours"),
        (
            source(fields="adds = {'x': 'float'}"),
            {},
            "Mine.adds: 'x' is 'float'; it may be string, integer, number, boolean, json",
        ),
        (source(fields="adds = {'x': ['string']}"), {}, r"'x' is \['string'\]; it may be"),
        (source(fields="adds = property(lambda self: 1 / 0)"), {}, "Mine.adds: ZeroDivisionError"),
    ],
)
def test_plugin_that_cannot_be_is_refused(text: str, wire: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message):
        step(text, **wire)


def test_class_is_named_where_there_are_several() -> None:
    text = source() + source().replace("Mine", "Yours")
    reference = {"configMapKeyRef": {"name": "plugins", "key": "a.py"}, "className": "Yours"}
    assert type(step(text, file=reference).stage.plugin).__name__ == "Yours"  # type: ignore[attr-defined]
    with pytest.raises(errors.ConfigurationError, match="no subclass of"):
        step(text, file=reference | {"className": "Nobody"})


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("1 / 0", "PluginError", "ZeroDivisionError"),
        ("raise SystemExit(0)", "PluginError", "SystemExit: 0"),
        ("raise Reject('too dull')", "Rejected", "too dull"),
        ("yield {'other': 1}", "PluginError", "'other', which it does not declare"),
        ("yield {'n': 'one'}", "PluginError", "'n' is integer, and got str"),
        ("yield {'n': True}", "PluginError", "got bool"),
        ("yield 7", "PluginError", "not a mapping"),
        ("await model.text('nothing', row)", "PluginError", "no prompt 'nothing'"),
        ("await model.text('p', row, on_cut_off='Drop')", "PluginError", "may be 'Fail', 'Keep'"),
        ("await model.items('p', row, item_form='All')", "PluginError", "may be 'Whole', 'Titles'"),
        ("row['absent']", "PluginError", "KeyError"),
        ("yield {'j': object()}", "PluginError", "'j' cannot be stored: .*type object"),
        ("yield {'j': {'a': ['\\ud800']}}", "PluginError", "'j' cannot be stored: .*surrogates"),
        ("yield {'s': '\\ud800'}", "PluginError", "'s' cannot be stored: .*surrogates"),
        ("x = []; x.append(x); yield {'j': x}", "PluginError", "'j' cannot be stored: .*recursion"),
    ],
)
async def test_what_goes_wrong_fails_the_record_alone(body: str, kind: str, message: str) -> None:
    compiled = step(source(body, "adds = {'n': 'integer', 's': 'string', 'j': 'json'}"))
    with pytest.raises(StageFailure, match=message) as caught:
        await run(compiled, {"text": "t"}, ScriptedLlm([]))
    assert caught.value.kind == kind


async def test_every_kind_of_answer() -> None:
    fields = (
        "adds = {'a': 'string', 'b': 'json', 'c': 'string', 'd': 'json'}\n"
        "    prompts = {'p': 'Ask {{ text }} {{ more }}', 'p_system': 'Be.'}"
    )
    body = (
        "s = {'type': 'object', 'properties': {'x': {'type': 'integer'}}, 'required': ['x']}\n"
        "        yield {'a': await model.text('p', row, more=1),\n"
        "               'b': await model.items('p', row, count=2, more=1),\n"
        "               'c': await model.label('p', row, labels=['good', 'bad'], more=1),\n"
        "               'd': await model.json('p', row, schema=s, more=1)}"
    )
    llm = ScriptedLlm(["Text.", "1. A\n2. B", "Bad.", '{"x": 1}'])
    first, rest = await run(step(source(body, fields)), {"text": "t"}, llm)
    assert first == {"a": "Text.", "b": ["A", "B"], "c": "bad", "d": {"x": 1}}
    assert rest == dict.fromkeys("abcd")


TITLES = "1. **One**\n   About it.\n2. **Two**\n   - More."


@pytest.mark.parametrize(
    ("form", "items"),
    [
        ("", ["One\nAbout it.", "Two\n- More."]),
        (", item_form='Titles'", ["One", "Two"]),
        (", item_form='Leaves'", ["About it.", "More."]),
    ],
)
async def test_items_are_whole_or_what_the_plugin_takes_of_them(
    form: str, items: list[str]
) -> None:
    body = f"yield {{'a': await model.items('p', row{form})}}; return"
    compiled = step(source(body, "adds = {'a': 'json'}; prompts = {'p': 'x'}"))
    assert await run(compiled, {}, ScriptedLlm([TITLES])) == [{"a": items}]


async def test_answer_that_is_cut_off_fails_the_row_or_is_kept() -> None:
    fields = "adds = {'a': 'string'}; prompts = {'p': 'x'}"
    half = Completion("Half of", "length", TokenUsage(), "fake")
    asking = step(source("yield {'a': await model.text('p', row)}; return", fields))
    with pytest.raises(StageFailure, match=r"sampling\.maxTokens.*on_cut_off='Keep'") as caught:
        await run(asking, {}, ScriptedLlm([half]))
    assert (caught.value.kind, caught.value.raw) == ("TruncatedCompletion", "Half of")
    kept = "yield {'a': await model.text('p', row, on_cut_off='Keep')}; return"
    assert await run(step(source(kept, fields)), {}, ScriptedLlm([half])) == [{"a": "Half of"}]


@pytest.mark.parametrize(
    ("finish_reason", "is_cut_off"),
    [("length", True), ("model_length", True), ("stop", False), ("eos", False), (None, False)],
)
async def test_a_half_answer_can_be_told_from_a_whole_one(
    finish_reason: str | None, is_cut_off: bool
) -> None:
    fields = "adds = {'a': 'json'}; prompts = {'p': 'Ask {{ text }} {{ more }}'}"
    body = (
        "found = await model.answer('p', row, more=1)\n"
        "        yield {'a': [found.text, found.finish_reason, found.is_cut_off]}; return"
    )
    llm = ScriptedLlm([Completion(" Some words. ", finish_reason, TokenUsage(), "fake")])
    made = await run(step(source(body, fields)), {"text": "t"}, llm)
    assert made == [{"a": ["Some words.", finish_reason, is_cut_off]}]
    assert llm.asked[0][-1].content == "Ask t 1"


@pytest.mark.parametrize("said", [refusal(), "   "])
async def test_no_answer_at_all_fails_the_row(said: Completion | str) -> None:
    compiled = step(source("await model.answer('p', row)", "prompts = {'p': 'x'}"))
    with pytest.raises(StageFailure) as caught:
        await run(compiled, {}, ScriptedLlm([said]))
    assert caught.value.kind in ("Refusal", "EmptyCompletion")


async def test_refusal_and_failed_calls_are_not_the_plugins_fault() -> None:
    class CallFailed(Exception):
        pass

    class Failing(ScriptedLlm):
        async def complete(self, *arguments: Any) -> Any:
            raise CallFailed

    compiled = step(source("await model.text('p', row)", "prompts = {'p': 'x'}"))
    with pytest.raises(CallFailed):
        await run(compiled, {}, Failing([]))
    with pytest.raises(StageFailure, match="refused"):
        await run(compiled, {}, ScriptedLlm([refusal()]))


class Later(Exception):
    """Stands for what the engine raises of its own: the answer comes another time."""


class Gone(ModelFailure):
    """A call that has failed for good."""

    kind = "BadRequest"


ASKED_BY_TWO = """import asyncio
        one, two = model.branches(2)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(one.text('p', row))
                group.create_task(two.text('p', row))
        except OSError:
            pass"""


@pytest.mark.parametrize(
    ("body", "answers", "expected"),
    [
        pytest.param(ASKED_BY_TWO, [Later(), Later()], Later, id="deferred-in-a-group"),
        pytest.param(ASKED_BY_TWO, [Gone("1"), Gone("2")], Gone, id="failed-in-a-group"),
        pytest.param(ASKED_BY_TWO, [Gone("1"), Later()], Later, id="failed-and-deferred"),
        pytest.param(
            "import asyncio\n"
            "        await asyncio.gather(*(m.text('p', row) for m in model.branches(2)))",
            [Later(), Later()],
            Later,
            id="deferred-side-by-side",
        ),
        pytest.param(
            "try: await model.text('p', row)\n        except Exception: pass",
            [Later()],
            Later,
            id="deferred-and-swallowed",
        ),
        pytest.param(
            "try: await model.text('p', row)\n"
            "        except Exception as exc: raise Reject('no') from exc",
            [Later()],
            Later,
            id="deferred-and-rejected",
        ),
    ],
)
async def test_what_the_engine_raises_reaches_it_through_any_plugin(
    body: str, answers: list[Exception], expected: type[Exception]
) -> None:
    compiled = step(source(body, "prompts = {'p': 'x'}"))
    with pytest.raises(expected):
        await run(compiled, {}, ScriptedLlm(answers))


async def test_plugin_may_do_without_an_answer_that_failed_for_good() -> None:
    body = "try: await model.text('p', row)\n        except Exception: pass"
    compiled = step(source(body, "prompts = {'p': 'x'}"))
    assert await run(compiled, {}, ScriptedLlm([Gone("no")])) == [{}]


async def test_needed_column_is_looked_for() -> None:
    with pytest.raises(StageFailure, match="no column 'text'"):
        await run(step(EXAMPLE), {}, ScriptedLlm([]))


def test_stage_without_a_model_says_so() -> None:
    compiled = step(source(fields="asks_model = False\n    rows_per_row = 2.0"))
    assert (compiled.fields, compiled.cost.calls, compiled.cost.rows) == ((), 0, 2.0)


def test_entry_point_is_found_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "plugin_of_a_package.py").write_text(source())
    monkeypatch.syspath_prepend(str(tmp_path))
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[kubesynth.stages]\nacme = plugin_of_a_package:Mine\n")
    assert importlib.metadata.entry_points(group="kubesynth.stages", name="acme")
    context = CompileContext("text", lambda _: "")
    spec = StageSpec.model_validate({"plugin": {"entryPoint": "acme"}})
    assert registry.compile_stage(spec, context).steps[0].fields == ("model",)
    missing = StageSpec.model_validate({"plugin": {"entryPoint": "other"}})
    with pytest.raises(errors.ConfigurationError, match="installed are: acme"):
        registry.compile_stage(missing, context)
