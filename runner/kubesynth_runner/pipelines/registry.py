"""From the stages of a manifest to steps that run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jinja2

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.pipeline import Stage
from kubesynth_api.v1alpha1.stages.base import StageSpec
from kubesynth_api.v1alpha1.stages.conversations import Dialogue, TwoTurnPrompt
from kubesynth_api.v1alpha1.stages.documents import ClosedQA
from kubesynth_api.v1alpha1.stages.generation import (
    Coding,
    Math,
    MultilingualQA,
    OpenQA,
    Writing,
)
from kubesynth_api.v1alpha1.stages.judgement import PreferencePairs, Score
from kubesynth_api.v1alpha1.stages.labelling import ClassifyEntity, Translate
from kubesynth_api.v1alpha1.stages.plugins import Plugin
from kubesynth_api.v1alpha1.stages.questions import Answer
from kubesynth_api.v1alpha1.stages.records import Filter, Prompt
from kubesynth_api.v1alpha1.stages.rewriting import (
    Distill,
    DiverseQA,
    ExtractKnowledge,
    KnowledgeList,
    Segment,
    WikipediaRewrite,
)
from kubesynth_runner import errors
from kubesynth_runner.pipelines import (
    answer,
    classify,
    closed_qa,
    dialogue,
    document_tasks,
    filtering,
    multilingual_qa,
    open_qa,
    plugin,
    preference_pairs,
    problems,
    prompt,
    score,
    segment,
    translate,
    writing,
)
from kubesynth_runner.pipelines.base import Steps
from kubesynth_runner.pipelines.compiling import CompileContext

# Each takes the stage as its own kind; the key says which that is.
COMPILERS: Mapping[type[StageSpec], Callable[[Any, CompileContext], Steps]] = {
    OpenQA: open_qa.compile_stage,
    Math: problems.compile_math,
    Coding: problems.compile_coding,
    Writing: writing.compile_stage,
    MultilingualQA: multilingual_qa.compile_stage,
    ClosedQA: closed_qa.compile_stage,
    Segment: segment.compile_stage,
    WikipediaRewrite: document_tasks.compile_task,
    Distill: document_tasks.compile_task,
    DiverseQA: document_tasks.compile_task,
    ExtractKnowledge: document_tasks.compile_task,
    KnowledgeList: document_tasks.compile_task,
    Answer: answer.compile_stage,
    Dialogue: dialogue.compile_dialogue,
    TwoTurnPrompt: dialogue.compile_two_turn_prompt,
    PreferencePairs: preference_pairs.compile_stage,
    Score: score.compile_stage,
    ClassifyEntity: classify.compile_stage,
    Translate: translate.compile_stage,
    Prompt: prompt.compile_stage,
    Plugin: plugin.compile_stage,
    Filter: filtering.compile_stage,
}


def compile_stage(spec: Stage, context: CompileContext) -> Steps:
    """Return the steps of a manifest's list item.

    Raises:
        ConfigurationError: a template is none.
    """
    try:
        return COMPILERS[type(spec.member)](spec.member, context)
    except jinja2.TemplateSyntaxError as exc:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC, f"stage {spec.kind}: line {exc.lineno} of a prompt: {exc}"
        ) from exc
