"""From the stages of a manifest to stages that run."""

from __future__ import annotations

from collections.abc import Callable

import jinja2

from kubesynth_api.conditions import Reason
from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1 import pipeline as api
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import templates
from kubesynth_runner.pipelines.answer import AnswerStage
from kubesynth_runner.pipelines.base import Stage
from kubesynth_runner.pipelines.closed_qa import ClosedQAStage
from kubesynth_runner.pipelines.prompt import PromptStage

# Resolves a prompt that is inline or in a ConfigMap.
ReadPrompt = Callable[[PromptText], str]


def compile_stage(spec: api.Stage, source: InputSpec, read: ReadPrompt) -> Stage:
    """Return the stage of a manifest's list item.

    Raises:
        ConfigurationError: a template is none.
    """
    try:
        if spec.closed_qa is not None:
            return ClosedQAStage(
                _prompt(spec.closed_qa.prompts, "closed_qa.v1", read),
                source.text_column,
                spec.closed_qa.questions,
                spec.closed_qa.on_short_list == "Fail",
            )
        if spec.answer is not None:
            return _answer(spec.answer, source, read)
        if spec.prompt is not None:
            return _custom(spec.prompt, read)
    except jinja2.TemplateSyntaxError as exc:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC, f"stage {spec.kind}: line {exc.lineno} of a prompt: {exc}"
        ) from exc
    raise errors.ConfigurationError(Reason.INVALID_SPEC, "a stage of the pipeline is empty")


def stage_id(spec: api.Stage, index: int) -> str:
    """Return the name of a stage in lineage, errors and metrics."""
    return spec.id or f"{spec.kind}-{index}"


def _answer(spec: api.Answer, source: InputSpec, read: ReadPrompt) -> Stage:
    has_document = spec.use_document and source.text_column != spec.question_column
    return AnswerStage(
        _prompt(spec.prompts, "answer.v1", read),
        spec.question_column,
        spec.answer_column,
        source.text_column if has_document else None,
    )


def _custom(spec: api.Prompt, read: ReadPrompt) -> Stage:
    examples: list[Message] = []
    for example in spec.examples:
        examples += [Message("user", example.user), Message("assistant", example.assistant)]
    system = read(spec.system) if spec.system else None
    prompt = templates.PromptTemplate.compile(read(spec.user), system, tuple(examples))
    return PromptStage(prompt, spec.output)


def _prompt(prompts: api.Prompts, name: str, read: ReadPrompt) -> templates.PromptTemplate:
    """Return a built-in prompt with the user's replacements."""
    user = read(prompts.user) if prompts.user else templates.load(f"{name}.user")
    system = read(prompts.system) if prompts.system else templates.load(f"{name}.system")
    return templates.PromptTemplate.compile(user, system)
