"""What the stages have at hand while they are compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from kubesynth_api.meta import PromptText
from kubesynth_api.v1alpha1.stages.base import Prompts
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import templates, tokens

# Resolves a prompt that is inline or in a ConfigMap.
ReadPrompt = Callable[[PromptText], str]


@dataclasses.dataclass(frozen=True, slots=True)
class CompileContext:
    """The pipeline around a stage: its document column, and the columns of records that reach it.

    `columns` are those whose types are known; a record may have more. `seed` is the job's. `count`
    is how its stages measure texts.
    """

    text_column: str
    read: ReadPrompt
    columns: Mapping[str, ColumnType] = dataclasses.field(default_factory=dict)
    seed: int = 0
    count: tokens.Count = tokens.count

    def prompt(self, prompts: Prompts, name: str) -> templates.PromptTemplate:
        """Return the built-in prompt called `name`, such as closed_qa.v1, as the user wants it."""
        user = self.read(prompts.user) if prompts.user else templates.load(f"{name}.user")
        system = self.read(prompts.system) if prompts.system else templates.load(f"{name}.system")
        return templates.PromptTemplate.compile(user, system)
