"""The catalogue of stages in docs/stages.md says of every stage what its model says."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from kubesynth_api.v1alpha1.pipeline import STAGE_KINDS, Stage
from kubesynth_testing import catalogue

TEXT = catalogue.PAGE.read_text()
LINE = re.compile(
    r"^\| \[`(?P<stage>\w+)`\]\(#(?P<anchor>[\w-]+)\) \|(?P<cells>.*)\|$", re.MULTILINE
)
LINES = {match["stage"]: match for match in LINE.finditer(TEXT)}
HEADINGS = {
    re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
    for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
}
BLOCKS = {match["stage"]: match for match in catalogue.BLOCK.finditer(TEXT)}
COLUMN = re.compile(r"`(\w+)`")
# What a stage cannot do without.
REQUIRED: dict[str, dict[str, Any]] = {
    "writing": {"topics": ["bread"], "materials": ["poem"]},
    "multilingualQA": {"languages": ["German"], "samples": 1},
    "classifyEntity": {"preset": "Math"},
    "translate": {"languages": ["German"]},
    "prompt": {"user": {"inline": "{{ text }}"}},
    "plugin": {"entryPoint": "headlines"},
    "filter": {"where": "score > 0.7"},
}
OWN = {"plugin": ({"inputColumns"}, {"outputColumns"})}


def test_every_stage_has_its_line_and_its_rows() -> None:
    assert list(LINES) == list(BLOCKS) == list(STAGE_KINDS)


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_columns_are_those_of_the_stage(kind: str) -> None:
    needs, adds, *_ = LINES[kind]["cells"].split(" | ")
    said = (set(COLUMN.findall(needs)), set(COLUMN.findall(adds)))
    member = Stage.model_validate({kind: REQUIRED.get(kind, {})}).member
    actual = (set(member.needs().values()), set(member.adds().values()))
    assert said == OWN.get(kind, actual)


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_its_section_and_its_example_are_there(kind: str) -> None:
    assert LINES[kind]["anchor"] in HEADINGS
    example = LINES[kind]["cells"].split("](../examples/")[1].rstrip(") ")
    manifest = yaml.safe_load((catalogue.EXAMPLES / example).read_text())
    assert kind in {name for stage in manifest["spec"]["pipeline"] for name in stage}


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_three_rows_have_the_columns_that_it_adds(kind: str) -> None:
    (sample,) = [each for each in catalogue.SAMPLES if kind in each.shown]
    assert BLOCKS[kind]["example"] == f"{sample.example}.yaml"
    columns = {*sample.shown[kind], *catalogue.columns_of(kind, sample)}
    rows = [json.loads(line) for line in BLOCKS[kind]["rows"].splitlines()]
    assert [set(row) for row in rows] == [columns] * catalogue.ROWS
