"""`multilingualQA`: questions with answers in many languages, from nothing but a model."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.generation import MultilingualQA
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import drawing, lists, structured
from kubesynth_runner.pipelines.base import StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate

# Fields that the model chooses within, where the user names no topics: one call knows nothing of
# the others, and left alone each would choose the same few favourites.
FIELDS = (
    "everyday life and the household",
    "food and cooking",
    "health and the body",
    "family and friendship",
    "school and learning",
    "work and professions",
    "money and trade",
    "law and public offices",
    "history",
    "geography and travel",
    "animals and plants",
    "weather and the environment",
    "physics and chemistry",
    "mathematics and logic",
    "computers and the internet",
    "machines and engineering",
    "buildings and cities",
    "farming and crafts",
    "language and literature",
    "music and the arts",
    "film, press and media",
    "sport and games",
    "religion, customs and festivals",
    "philosophy and ethics",
)
# Different answers to equal prompts are wanted here.
SAMPLING = SamplingParameters(temperature=0.9, top_p=0.95)


def _schema(text: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": {"question": text, "answer": text},
        "required": ["question", "answer"],
        "additionalProperties": False,
    }


# What a server is held to.
SENT = _schema({"type": "string", "minLength": 1})
# What an answer must be, blanks not being one.
SCHEMA = _schema({"type": "string", "pattern": r"\S"})


@dataclasses.dataclass(frozen=True, slots=True)
class MultilingualQAStage:
    """Asks for one question and its answer in the record's language."""

    prompt: PromptTemplate

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The pair."""
        return {"question": "string", "answer": "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its question and answer."""
        messages = self.prompt.render(record.columns)
        value = await structured.ask_json(llm, messages, SCHEMA, bounds_are_told=True, sent=SENT)
        yield {name: value[name].strip() for name in self.columns}


def draw(spec: MultilingualQA, seed: int) -> list[records.Columns]:
    """Return the language, topic and number of each sample.

    Topics are dealt like cards: each language gets all of them before one comes again. `number`
    counts the samples of a language and topic from 0. Deterministic in the seed.
    """
    chance = random.Random(f"multilingualQA/{seed}")
    languages = lists.distinct(spec.languages)
    if spec.samples_per_language is not None:
        chosen = [name for name in languages for _ in range(spec.samples_per_language)]
    else:
        chosen = chance.choices(languages, k=spec.samples or 0)
    topics = lists.distinct(spec.topics) or list(FIELDS)
    decks = {name: chance.sample(topics, len(topics)) for name in languages}
    dealt: Counter[str] = Counter()
    drawn: list[records.Columns] = []
    for language in chosen:
        number, place = divmod(dealt[language], len(topics))
        dealt[language] += 1
        drawn.append({"language": language, "topic": decks[language][place], "number": number})
    return drawn


def compile_stage(spec: MultilingualQA, context: CompileContext) -> Steps:
    """Return the level and the step of a `multilingualQA`."""
    stage = MultilingualQAStage(context.prompt(spec.prompts, "multilingual_qa.v1"))
    columns: dict[str, ColumnType] = {"language": "string", "topic": "string"}
    samples = drawing.level("samples", columns, draw(spec, context.seed))
    return Steps((Step(stage, sampling=SAMPLING),), (samples,))
