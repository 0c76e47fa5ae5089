"""What is said against a chat template before anything is started."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubesynth_api import chat_templates, validation
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_testing.manifests import SMALL, edited

GOOD = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
PATH = "spec.models[0].external.triton.chatTemplate"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        pytest.param("{% for m in messages %}", "line 1: ", id="open loop"),
        pytest.param("{{ messages | tidy }}", "no filter is named 'tidy'", id="filter"),
        pytest.param("{{ messages is nice }}", "no test is named 'nice'", id="test"),
        pytest.param("\n{% include 'a' %}", "line 2: it cannot include", id="include"),
        pytest.param("Hello!", "does not use `messages`", id="no messages"),
        pytest.param("{{ " + "(" * 5000, "nested too deeply", id="nesting"),
    ],
)
def test_template_that_cannot_work_is_refused(template: str, message: str) -> None:
    with pytest.raises(chat_templates.TemplateProblem, match=message):
        chat_templates.check(template)


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(GOOD, id="plain"),
        pytest.param(
            "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}"
            "{{ m.content }}{% endfor %}",
            id="loop controls",
        ),
        pytest.param(
            "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
            id="generation",
        ),
        pytest.param("{{ raise_exception('no') if not messages }}{{ strftime_now('%Y') }}"),
    ],
)
def test_dialect_of_hugging_face_is_understood(template: str) -> None:
    chat_templates.check(template)


def test_tokenizer_config_gives_template_and_tokens() -> None:
    config = {"chat_template": GOOD, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    source = chat_templates.from_tokenizer_config(json.dumps(config))
    assert source.text == GOOD
    assert source.tokens == {"bos_token": "<s>", "eos_token": "</s>"}


def test_of_many_named_templates_the_default_is_taken() -> None:
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": GOOD}]
    config = json.dumps({"chat_template": named})
    assert chat_templates.from_tokenizer_config(config).text == GOOD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", r"no chat_template; .*chat_template\.jinja"),
        ('{"chat_template": [{"name": "rag", "template": "x"}]}', "no chat_template"),
    ],
)
def test_tokenizer_config_without_a_template_is_refused(text: str, message: str) -> None:
    with pytest.raises(chat_templates.TemplateProblem, match=message):
        chat_templates.from_tokenizer_config(text)


TRITON = {"protocol": "Triton", "url": "grpc://triton:8001", "model": "m"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec.models[0].sampling.choices", 2),
        ("spec.models[0].sampling.logprobs", True),
        ("spec.pipeline[1].answer.sampling.reasoningEffort", "low"),
    ],
)
def test_what_no_backend_of_triton_can_do_is_found(field: str, value: object) -> None:
    folder, _, name = field.rpartition(".")
    edits = {"spec.models[0].external": TRITON, folder: {name: value}}
    spec = SyntheticDataJobSpec.model_validate(edited(SMALL, edits)["spec"])
    assert field in [finding.path for finding in validation.check(spec, "job")]


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ({"jinja": {"inline": "{{ messages"}}, f"{PATH}.jinja.inline"),
        (
            {"jinja": {"configMapKeyRef": {"name": "templates", "key": "broken"}}},
            f"{PATH}.jinja.configMapKeyRef",
        ),
        ({"tokenizerConfig": {"inline": "{}"}}, f"{PATH}.tokenizerConfig.inline"),
    ],
)
def test_broken_template_is_found_at_its_field(template: dict[str, Any], path: str) -> None:
    external = TRITON | {"triton": {"chatTemplate": template}}
    manifest = edited(SMALL, {"spec.models[0].external": external})
    spec = SyntheticDataJobSpec.model_validate(manifest["spec"])
    found = validation.check(spec, "job", {"templates": {"broken": "{% if %}"}})
    assert found[0].path == path
    assert "not a chat template" in found[0].message
