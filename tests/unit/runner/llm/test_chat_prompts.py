"""Messages to prompts: built-in formats, models' own templates, and templates that fail."""

from __future__ import annotations

import json

import pytest

from kubesynth_api.chat_templates import TemplateProblem, TemplateSource, from_tokenizer_config
from kubesynth_runner.llm import chat_prompts
from kubesynth_runner.llm.base import Message

SYSTEM = Message("system", "Be brief.")
TALK = (
    Message("user", "Hello"),
    Message("assistant", "Hi."),
    Message("user", "What is a mill?"),
)

# Each as its model's makers print it.
FORMATS = {
    "ChatML": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nWhat is a mill?<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    "Gemma": (
        "<bos><start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n"
        "<start_of_turn>model\nHi.<end_of_turn>\n"
        "<start_of_turn>user\nWhat is a mill?<end_of_turn>\n<start_of_turn>model\n"
    ),
    "Llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhat is a mill?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "Mistral": ("<s>[INST] Be brief.\n\nHello [/INST] Hi.</s>[INST] What is a mill? [/INST]"),
    "Nemotron4": (
        "<extra_id_0>System\nBe brief.\n<extra_id_1>User\nHello\n<extra_id_1>Assistant\nHi.\n"
        "<extra_id_1>User\nWhat is a mill?\n<extra_id_1>Assistant\n"
    ),
    "Phi3": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi.<|end|>\n"
        "<|user|>\nWhat is a mill?<|end|>\n<|assistant|>\n"
    ),
    "Phi4": (
        "<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hello<|im_end|>"
        "<|im_start|>assistant<|im_sep|>Hi.<|im_end|>"
        "<|im_start|>user<|im_sep|>What is a mill?<|im_end|><|im_start|>assistant<|im_sep|>"
    ),
    "Plain": (
        "System: Be brief.\n\nUser: Hello\n\nAssistant: Hi.\n\nUser: What is a mill?\n\nAssistant:"
    ),
    "PassThrough": "Be brief.\n\nHello\n\nHi.\n\nWhat is a mill?",
}


@pytest.mark.parametrize("name", FORMATS)
def test_built_in_format_is_that_of_its_family(name: str) -> None:
    prompt = chat_prompts.built_in(name, begin_of_text=True)
    assert prompt((SYSTEM, *TALK)) == FORMATS[name]


@pytest.mark.parametrize(
    ("name", "token"), [("Gemma", "<bos>"), ("Llama3", "<|begin_of_text|>"), ("Mistral", "<s>")]
)
def test_begin_of_text_is_left_to_the_servers_tokenizer(name: str, token: str) -> None:
    prompt = chat_prompts.built_in(name)((SYSTEM, *TALK))
    assert token + prompt == FORMATS[name]


def test_system_text_of_nobody_is_not_invented() -> None:
    assert chat_prompts.built_in("ChatML")((Message("user", "Hi"),)) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    # This family opens with an empty system block.
    assert chat_prompts.built_in("Nemotron4")((Message("user", "Hi"),)) == (
        "<extra_id_0>System\n\n<extra_id_1>User\nHi\n<extra_id_1>Assistant\n"
    )


def test_system_text_goes_before_the_first_user_turn() -> None:
    assert chat_prompts.merge_system((SYSTEM, *TALK)) == (
        Message("user", "Be brief.\n\nHello"),
        *TALK[1:],
    )
    assert chat_prompts.merge_system((SYSTEM,)) == (Message("user", "Be brief."),)
    assert chat_prompts.merge_system(TALK) == TALK


TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}"
            "{% endif %}" + TURNS,
            id="refuses a system role",
        ),
        pytest.param(
            "{% for m in messages if m.role != 'system' %}[{{ m.role }}]{{ m.content }}"
            "{% endfor %}",
            id="drops the system text",
        ),
    ],
)
def test_template_without_a_system_role_gets_it_in_the_users_turn(template: str) -> None:
    prompt = chat_prompts.from_source(TemplateSource(template))
    assert prompt((SYSTEM, Message("user", "Hello"))) == "[user]Be brief.\n\nHello"


def test_templates_own_tokens_and_dialect() -> None:
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "chat_template": (
            "{{ bos_token }}{% for m in messages %}\n"
            "    {% if m.role == 'tool' %}{% continue %}{% endif %}\n"
            "{{ m.content | tojson(indent=2) }}{{ eos_token }}{% endfor %}"
            "{% if add_generation_prompt %}>{% endif %}"
        ),
    }
    source = from_tokenizer_config(json.dumps(config))
    talk = (Message("user", "<ä>"),)
    assert chat_prompts.from_source(source)(talk) == '"<ä>"</s>>'
    assert chat_prompts.from_source(source, begin_of_text=True)(talk) == '<s>"<ä>"</s>>'


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content.nothing.at_all }}", "nothing"),
        ("{{ raise_exception('only for tools') if messages }}", "only for tools"),
        ("{{ messages[0].content }}", "leaves out what the "),
        ("{{ messages }}{{ 9 ** 99999 }}", "too large"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages", "unexpected end"),
    ],
)
def test_template_that_fails_says_so_before_a_record_is_sent(template: str, message: str) -> None:
    with pytest.raises(TemplateProblem, match=message):
        chat_prompts.from_source(TemplateSource(template))


def test_template_may_refuse_one_conversation() -> None:
    template = TURNS + "{% if messages | length > 3 %}{{ raise_exception('too long') }}{% endif %}"
    prompt = chat_prompts.from_source(TemplateSource(template))
    with pytest.raises(TemplateProblem, match="too long"):
        prompt((*TALK, *TALK))
