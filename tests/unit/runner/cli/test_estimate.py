"""`kubesynth estimate`: formulas, prices, and input that is or is not at hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_runner.cli import builtin_prompts
from kubesynth_runner.cli.__main__ import main

Stages = list[dict[str, Any]]
TREE = {"macroTopics": 2, "subtopics": 3, "questions": 4, "revisions": 2}


def manifest(folder: Path, pipeline: Stages, **spec: Any) -> str:
    models = [
        {"name": name, "external": {"url": "http://127.0.0.1:9/v1", "model": "m"}}
        for name in ("writer", "judge")
    ]
    job = {
        "apiVersion": "kubesynth.io/v1alpha1",
        "kind": "SyntheticDataJob",
        "metadata": {"name": "job"},
        "spec": {"models": models, "pipeline": pipeline, "output": {"uri": "file://out"}, **spec},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return str(path)


def estimate(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["estimate", *arguments, "--output", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_generated_input_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = {"model": "judge", "messagesColumn": "messages"}
    stages: Stages = [{"openQA": TREE}, {"dialogue": {}}, {"score": score}]
    found = estimate(capsys, manifest(tmp_path, stages))
    topics, questions = 2 * 3 + 2, (2 * 3 + 2) * 4
    calls = [(line["stage"], line["calls"], line["rows"]) for line in found["plan"]]
    assert calls == [
        ("openQA-0/macro-topics", 1, 2),
        ("openQA-0/subtopics", 2, topics),
        ("openQA-0/questions", topics, questions),
    ]
    assert [(line["stage"], line["calls"]) for line in found["stages"]] == [
        ("openQA-0/revisions", questions),
        ("dialogue-1", 2 * questions * 5),
        ("score-2", 2 * questions),
    ]
    total = found["total"]
    assert total["calls"] == 1 + 2 + topics + questions + 2 * questions * 6
    assert total["rows"] == 2 * questions
    assert found["inputRecords"] == questions
    lines = [*found["plan"], *found["stages"]]
    tokens = sum(line["promptTokens"] + line["completionTokens"] for line in lines)
    assert total["tokens"] == pytest.approx(tokens, abs=1)
    assert "costUSD" not in total


def test_prices_are_by_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline: Stages = [
        {"answer": {}},
        {"score": {"model": "judge"}},
        {"filter": {"where": "score > 0"}},
    ]
    path = manifest(tmp_path, pipeline, input={"uri": "file://in.jsonl"})
    arguments = [path, "--records", "1000000", "--characters", "0"]
    answer, score, dropped = estimate(capsys, *arguments, "--price", "writer=1,2")["stages"]
    assert answer["costUSD"] == pytest.approx(120 * 1 + 200 * 2)
    assert "costUSD" not in score
    assert dropped["calls"] == dropped["costUSD"] == 0
    prices = ["--price", "writer=1,2", "--price", "judge=0,1"]
    total = estimate(capsys, *arguments, *prices)["total"]
    assert total["costUSD"] == pytest.approx(520 + 120)


def test_input_is_counted_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "%s"}\n' % ("x" * 400) * 5)
    pipeline: Stages = [{"closedQA": {"questions": 3}}, {"answer": {}}]
    path = manifest(tmp_path, pipeline, input={"uri": "file://in.jsonl", "limit": 4})
    found = estimate(capsys, path)
    assert found["inputRecords"] == 4
    assert [line["calls"] for line in found["stages"]] == [4, 12]
    assert found["stages"][0]["promptTokens"] > 4 * (120 + 100)


def test_the_table_shows_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = manifest(tmp_path, [{"math": {"macroTopics": 1, "subtopics": 1, "problems": 1}}])
    assert main(["estimate", path]) == 0
    out = capsys.readouterr().out
    for expected in ("math-0/macro-topics", "math-0/problems", "in all", "writer", "--price"):
        assert expected in out


@pytest.mark.parametrize(
    ("pipeline", "arguments", "problem"),
    [
        ([{"answer": {}}], [], "--records N"),
        ([{"answer": {}}], ["--characters", "9"], "--characters is the length of --records N"),
        ([{"answer": {}}], ["--records", "1", "--price", "x=1,2"], "no model has the role 'x'"),
        ([{"answer": {}}], ["--records", "1", "--price", "writer=1"], "ROLE=PROMPT,COMPLETION"),
        ([{"answer": {}}], ["--records", "1", "--price", "writer=nan,1"], "0 or more"),
        ([{"answer": {}}], ["--records", "1", "--price", "writer=1,1e999"], "0 or more"),
        ([{"answer": {}}], ["--records", "1", "--price", "writer=-1,2"], "0 or more"),
        ([{"score": {"model": "jury"}}], ["--records", "1"], "no model has the role 'jury'"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pipeline: Stages,
    arguments: list[str],
    problem: str,
) -> None:
    path = manifest(tmp_path, pipeline, input={"uri": "file://none/*.jsonl"})
    assert main(["estimate", path, *arguments]) != 0
    assert problem in capsys.readouterr().err


def test_a_wrong_column_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.jsonl").write_text('{"id": 1, "body": "hello"}')
    path = manifest(tmp_path, [{"answer": {}}], input={"uri": "file://one.jsonl"})
    assert main(["estimate", path]) != 0
    said = capsys.readouterr().err
    assert "input.textColumn: no record of file://one.jsonl has a column 'text'" in said
    assert "there are id, body" in said
    assert "--records" not in said, "the input is here"


REFERENCE = {"configMapKeyRef": {"name": "texts", "key": "a.py"}}


@pytest.mark.parametrize("arguments", [[], ["--records", "100"]])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "--config texts=DIR_OR_FILE"),
        ({}, "has no key 'a.py'; it has no keys"),
        ({"a.py": b"\xff"}, "ConfigMap 'texts', key 'a.py': 'utf-8' codec"),
    ],
)
def test_the_file_of_a_plugin_has_to_be_at_hand(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: dict[str, bytes] | None,
    said: str,
    arguments: list[str],
) -> None:
    (tmp_path / "one.jsonl").write_text('{"text": "hello"}')
    stages: Stages = [{"plugin": {"file": REFERENCE}}]
    path = manifest(tmp_path, stages, input={"uri": "file://one.jsonl"})
    if content is not None:
        (tmp_path / "texts").mkdir()
        for name, data in content.items():
            (tmp_path / "texts" / name).write_bytes(data)
        arguments = [*arguments, "--config", f"texts={tmp_path}/texts"]
    assert main(["estimate", path, *arguments]) != 0
    told = capsys.readouterr().err
    assert said in told
    assert "SyntaxError" not in told


@pytest.mark.parametrize(
    ("content", "said"),
    [({}, "No such file"), ({"a.py": b"\xff"}, "'utf-8' codec")],
)
def test_a_prompt_that_is_mapped_has_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: dict[str, bytes], said: str
) -> None:
    path = manifest(tmp_path, [{"prompt": {"user": REFERENCE}}], input={"uri": "file://one.jsonl"})
    assert main(["estimate", path, "--records", "1"]) == 0, "its length alone would matter"
    (tmp_path / "texts").mkdir()
    for name, data in content.items():
        (tmp_path / "texts" / name).write_bytes(data)
    flags = ["--records", "1", "--config", f"texts={tmp_path}/texts"]
    assert main(["estimate", path, *flags]) != 0
    told = capsys.readouterr().err
    assert "ConfigMap 'texts', key 'a.py': " in told
    assert said in told


def test_prompts_say_what_they_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prompts", "show", "openQA"]) == 0
    out = capsys.readouterr().out
    assert out.count("# Asks for: ") == out.count("# Why: ") == 8
    assert "# Placeholders: count, question" in out
    assert "{#" not in out
    assert main(["prompts", "show", "filter"]) != 0
    assert "'filter' has no built-in prompts" in capsys.readouterr().err
    assert main(["prompts", "show", "poem"]) != 0
    assert "'poem' is no stage; these have some: answer, " in capsys.readouterr().err
    assert main(["prompts", "list"]) == 0
    assert "twoTurnPrompt" in capsys.readouterr().out


def test_every_built_in_prompt_has_a_head() -> None:
    prompts = builtin_prompts.load()
    assert len(prompts) > 50
    for prompt in prompts:
        name = f"{prompt.name}.{prompt.role}"
        assert re.fullmatch(r"Asks for: .+\. Why: .+\.", prompt.about), name
