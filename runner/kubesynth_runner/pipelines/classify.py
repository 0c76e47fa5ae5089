"""`classifyEntity`: one label of a closed set for each entity."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.labelling import ClassifyEntity, EntityClass
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import labels
from kubesynth_runner.pipelines.base import Cost, StageFailure, StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate

_TEMPERATURE = 0.3
_LABEL_TOKENS, _EXPLAINED_TOKENS = 64, 300

PRESETS: Mapping[str, tuple[EntityClass, ...]] = {
    "Math": (
        EntityClass(
            name="Yes",
            description=(
                "it belongs to mathematics: a concept taught at school or university; an axiom, "
                "theorem, algorithm or equation; a well-known problem, function or application"
            ),
        ),
        EntityClass(name="No", description="it does not, or only as a word of everyday language"),
    ),
    "Python": (
        EntityClass(
            name="Yes",
            description=(
                "it belongs to programming in Python: a concept of the language; a function, type, "
                "module or library; mathematics that is commonly programmed in it; a basic "
                "algorithm or problem of computer science"
            ),
        ),
        EntityClass(name="No", description="it does not"),
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class ClassifyStage:
    """Asks for the label of one entity."""

    prompt: PromptTemplate
    spec: ClassifyEntity
    classes: tuple[EntityClass, ...]

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The label, and the answer that it was read from."""
        return dict.fromkeys(self.spec.adds().values(), "string")

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its label."""
        entity = record.columns.get(self.spec.entity_column)
        if not isinstance(entity, str) or not entity.strip():
            raise StageFailure("BadInput", f"column {self.spec.entity_column!r} holds no entity")
        messages = self.prompt.render(
            {
                **record.columns,
                "entity": entity.strip(),
                "classes": self.classes,
                "explain": self.spec.explain,
            }
        )
        names = [known.name for known in self.classes]
        label, answer = await labels.ask_label(llm, messages, names)
        made = {self.spec.column: label}
        if self.spec.answer_column is not None:
            made[self.spec.answer_column] = answer
        yield made


def compile_stage(spec: ClassifyEntity, context: CompileContext) -> Steps:
    """Return the step of a `classifyEntity`."""
    classes = PRESETS[spec.preset] if spec.preset is not None else spec.classes
    stage = ClassifyStage(context.prompt(spec.prompts, "classify_entity.v2"), spec, classes)
    tokens = _EXPLAINED_TOKENS if spec.explain else _LABEL_TOKENS
    sampling = SamplingParameters(temperature=_TEMPERATURE, max_tokens=tokens)
    return Steps((Step(stage, sampling=sampling, cost=Cost(completion_tokens=tokens // 4)),))
