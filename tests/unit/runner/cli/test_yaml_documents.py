from __future__ import annotations

import pytest

from kubesynth_runner.cli.yaml_documents import ManifestSyntaxError, load

TEXT = """\
kind: A
spec:
  models:
    - name: generator
      external:
        url: http://x/v1
    - {name: judge}
---
---
kind: B
"""


def test_every_document_is_read_and_empty_ones_are_not() -> None:
    assert [document.value["kind"] for document in load(TEXT, "job.yaml")] == ["A", "B"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        pytest.param("spec.models[0].external.url", 6, id="field"),
        pytest.param("spec.models[1]", 7, id="item"),
        pytest.param("spec.models[1].name", 7, id="flow-style"),
        pytest.param("spec.models[0].external.apiKey.name", 5, id="absent-field"),
        pytest.param("spec.input", 2, id="absent-block"),
        pytest.param("status", 1, id="absent-at-the-top"),
        pytest.param("", 1, id="document"),
    ],
)
def test_line_of_a_field_is_known(path: str, line: int) -> None:
    assert load(TEXT, "job.yaml")[0].line_of(path) == line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("2026-01-02", "2026-01-02", id="date-stays-text"),
        pytest.param("1e-3", 0.001, id="float-without-a-point"),
        pytest.param("0.5", 0.5, id="float"),
        pytest.param("'1e-3'", "1e-3", id="quoted"),
        pytest.param("yes", True, id="yes"),
        pytest.param("~", None, id="null"),
    ],
)
def test_scalars_are_read_as_the_api_server_does(text: str, value: object) -> None:
    assert load(f"x: {text}", "job.yaml")[0].value == {"x": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: 1\nb: [1\n", r"job\.yaml:3: no valid YAML", id="unclosed"),
        pytest.param("a: 1\n\tb: 2", r"job\.yaml:2: no valid YAML", id="tab"),
        pytest.param("a:\n  b: 1\n  c: 2\n  b: 3", r"job\.yaml:4: the key 'b' occurs", id="twice"),
        pytest.param("a: !!python/object:os.system {}", r"job\.yaml:1: no valid", id="tag"),
        pytest.param("a: \x00", r"job\.yaml: no valid YAML", id="control-character"),
        pytest.param("[" * 3000, r"job\.yaml: no valid YAML: nested too deeply", id="nested"),
        pytest.param("a: *b", r"job\.yaml:1: no valid YAML", id="unknown-alias"),
        pytest.param("&a [*a]", r"job\.yaml", id="recursion"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ManifestSyntaxError, match=message):
        load(text, "job.yaml")
