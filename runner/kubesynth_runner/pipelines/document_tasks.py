"""The five stages of Nemotron-CC: each asks about the segments of a document, one call for each.

With output Rows a document falls into segments first, which the engine streams like any records;
with output Text one record is asked about segment by segment, and stays one.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Mapping

from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.rewriting import (
    SEGMENT_COLUMN,
    Distill,
    DiverseQA,
    DocumentTask,
    ExtractKnowledge,
    KnowledgeList,
    WikipediaRewrite,
)
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.llm.base import Message
from kubesynth_runner.pipelines import base, readings, segmenting, structured, templates, tokens
from kubesynth_runner.pipelines.base import Cost, StageFailure, StageLlm, Step, Steps
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate

# Room for what the server puts around messages, of which nothing is known here.
_TEMPLATE_TOKENS = 16
# Of a prompt without its document, where nobody can know its length yet: in estimates.
_USUAL_PROMPT_TOKENS = 120
_LEAST_SEGMENT = 16
_TEMPERATURE, _TOP_P = 0.5, 0.9


@dataclasses.dataclass(frozen=True, slots=True)
class SplitStage:
    """Makes a record of each segment of a document."""

    recipe: DocumentTask
    prompt: PromptTemplate
    variables: Mapping[str, object]
    text_column: str
    count: tokens.Count

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The segment's number; the text takes the document's place."""
        return {SEGMENT_COLUMN: "integer"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield one child per segment, or the record itself if there is none and it is kept.

        What is a segment already keeps its number, and so do its pieces if it is cut again.
        """
        found, outer = cut(self, record), segment_number(record)
        if not found and self.recipe.on_nothing == "Keep":
            yield {SEGMENT_COLUMN: _kept(outer)}
        for number, segment in enumerate(found):
            yield {self.text_column: segment, SEGMENT_COLUMN: number if outer is None else outer}


@dataclasses.dataclass(frozen=True, slots=True)
class TaskStage:
    """Asks about a segment, or about all segments of a document with output Text."""

    recipe: DocumentTask
    prompt: PromptTemplate
    variables: Mapping[str, object]
    text_column: str
    count: tokens.Count
    reading: readings.Reading

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """Texts, and with output Rows the segment's number, which the split has left marked."""
        texts: Mapping[str, ColumnType] = dict.fromkeys(self.recipe.results().values(), "string")
        return {**texts, SEGMENT_COLUMN: "integer"} if self.recipe.output == "Rows" else texts

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the results that pass; without any, nothing or the record with empty columns."""
        is_row = self.recipe.output == "Rows"
        made = await (self._rows if is_row else self._text)(record, llm)
        if not made and self.recipe.on_nothing == "Keep":
            made = [dict.fromkeys(self.recipe.results().values())]
        number = {SEGMENT_COLUMN: _unmark(record.columns[SEGMENT_COLUMN])} if is_row else {}
        for columns in made:
            yield {**columns, **number}

    async def _rows(self, record: records.Record, llm: StageLlm) -> list[records.Columns]:
        if segment_number(record) is None:
            return []  # kept by the split
        segment = str(record.columns[self.text_column])
        results = await self._ask(record, llm, segment, 0)
        names = self.recipe.results().values()
        return [dict(zip(names, result, strict=True)) for result in results]

    async def _text(self, record: records.Record, llm: StageLlm) -> list[records.Columns]:
        results: list[tuple[str, ...]] = []
        for number, segment in enumerate(cut(self, record)):
            found = await self._ask(record, llm, segment, number)
            if not found and isinstance(self.reading, readings.TextReading):
                return []  # a text with a hole is none
            results += found
        text = self.reading.text(results)
        if not results or not self._is_long_enough(text, ""):
            return []
        recipe = self.recipe
        if isinstance(recipe, DiverseQA) and recipe.include_document:
            text = f"{record.columns[self.text_column]}\n\n{text}"
        return [dict.fromkeys(self.recipe.results().values(), text)]

    async def _ask(
        self, record: records.Record, llm: StageLlm, segment: str, number: int
    ) -> list[tuple[str, ...]]:
        messages = self.prompt.render(
            {**record.columns, **self.variables, self.text_column: segment, "document": segment}
        )
        results = await self._read(llm, messages, segment, f"{record.record_id}/{number}")
        is_one_of_many = self.recipe.output == "Text" and not isinstance(self.recipe, DiverseQA)
        if is_one_of_many or self._is_long_enough(self.reading.text(results), segment):
            return results
        return []

    async def _read(
        self, llm: StageLlm, messages: tuple[Message, ...], segment: str, seed: str
    ) -> list[tuple[str, ...]]:
        """Ask, and once more if nothing can be read of an answer that is whole.

        Raises:
            StageFailure: nor of the second one, or it was cut off, and records of which nothing
                comes are not kept.
        """
        repair, said = self.reading.repair, messages
        while True:
            completion = await llm.complete(said)
            results = self.reading.results(completion, segment, random.Random(seed))
            if results:
                return results
            if base.is_cut_off(completion):
                failure = base.cut_off("the answer", completion.text)
            elif repair is None:
                return []
            elif said is messages:
                prompt = templates.PromptTemplate.compile(templates.load(repair))
                again = prompt.render(
                    {"context": structured.ListRequest(self.reading.wanted, None)}
                )
                said = (*messages, Message("assistant", completion.text), *again)
                continue
            else:
                wanted = self.reading.wanted
                failure = StageFailure(
                    "UnparsableCompletion", f"no {wanted} in it", completion.text
                )
            if self.recipe.on_nothing == "Keep":
                return []
            raise failure

    def _is_long_enough(self, text: str, segment: str) -> bool:
        length = self.count(text)
        if isinstance(self.recipe, DiverseQA):
            if not segment:
                return True  # each segment has been measured with its pairs
            length += self.count(segment)
        return length >= self.recipe.min_output_tokens


def segment_number(record: records.Record) -> int | None:
    """Return the number of the segment that a record is, or None if it is none (yet)."""
    number = record.columns.get(SEGMENT_COLUMN)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        return None
    return number


def _kept(outer: int | None) -> int | None:
    """Return what the split says of a record that the model is not to be asked about."""
    return None if outer is None else ~outer


def _unmark(number: int | None) -> int | None:
    """Return the number of the segment, whether or not the model was to be asked about it."""
    return ~number if number is not None and number < 0 else number


def cut(stage: SplitStage | TaskStage, record: records.Record) -> list[str]:
    """Return the segments of a record's document that are long enough to be asked about.

    Raises:
        StageFailure: there is no document, or the prompt leaves no room for one.
    """
    document, recipe, count = document_of(record, stage.text_column), stage.recipe, stage.count
    if count(document) < recipe.min_document_tokens:
        return []
    empty = {**record.columns, **stage.variables, stage.text_column: "", "document": ""}
    prompt = sum(count(message.content) for message in stage.prompt.render(empty))
    room = recipe.max_input_tokens - prompt - _TEMPLATE_TOKENS
    if room < _LEAST_SEGMENT:
        raise StageFailure(
            "BadInput",
            f"the prompt alone has about {prompt} tokens, which leaves no room for a document; "
            f"raise maxInputTokens ({recipe.max_input_tokens})",
        )
    return segmenting.segments(document, room, min_tokens=recipe.min_segment_tokens, count=count)


def document_of(record: records.Record, column: str) -> str:
    """Return a record's document.

    Raises:
        StageFailure: there is none.
    """
    document = record.columns.get(column)
    if not isinstance(document, str) or not document.strip():
        raise StageFailure("BadInput", f"column {column!r} holds no document")
    return document


# The prompt of each kind, and how long its answers may be (NeMo Curator's figures).
_KINDS: Mapping[type[DocumentTask], tuple[str, int]] = {
    WikipediaRewrite: ("wikipedia_rewrite.v1", 512),
    Distill: ("distill.v1", 1600),
    ExtractKnowledge: ("extract_knowledge.v1", 1400),
    KnowledgeList: ("knowledge_list.v1", 600),
    DiverseQA: ("diverse_qa.v1", 600),
}


def compile_task(spec: DocumentTask, context: CompileContext) -> Steps:
    """Return the steps of one of the five."""
    name, max_tokens = _KINDS[type(spec)]
    prompt, reading = context.prompt(spec.prompts, name), readings.of(spec, context.count)
    variables = reading.variables()
    where = (context.text_column, context.count)
    room = max(_LEAST_SEGMENT, spec.max_input_tokens - _USUAL_PROMPT_TOKENS - _TEMPLATE_TOKENS)
    asks_by_segment = spec.output == "Text"
    rows = 1.0
    if spec.output == "Rows":
        rows = spec.pairs if isinstance(spec, DiverseQA) else rows
        rows = structured.USUAL_ITEMS if isinstance(spec, KnowledgeList) else rows
    task = Step(
        TaskStage(spec, prompt, variables, *where, reading),
        sampling=SamplingParameters(temperature=_TEMPERATURE, top_p=_TOP_P, max_tokens=max_tokens),
        cost=Cost(
            calls=not asks_by_segment,
            rows=rows,
            completion_tokens=max_tokens // 2,
            segment_tokens=room,
            segment_calls=asks_by_segment,
        ),
    )
    if asks_by_segment:
        return Steps((task,))
    split = SplitStage(spec, prompt, variables, *where)
    cost = Cost(calls=0, segment_tokens=room, splits=True)
    return Steps((Step(split, "split", fields=(), cost=cost), task))
