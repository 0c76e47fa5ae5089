"""`translate`: columns in other languages, long texts segment by segment."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Iterator, Mapping

from kubesynth_api.v1alpha1.stages.labelling import Translate
from kubesynth_runner import records
from kubesynth_runner.io.plan_file import ColumnType
from kubesynth_runner.pipelines import segmenting, tidying, tokens
from kubesynth_runner.pipelines.base import (
    Cost,
    StageFailure,
    StageLlm,
    Step,
    Steps,
    accept_text,
    cut_off,
    is_cut_off,
)
from kubesynth_runner.pipelines.compiling import CompileContext
from kubesynth_runner.pipelines.templates import PromptTemplate

_EQUALS = re.compile(r"\A={5,}[ \t]*\n|\n={5,}[ \t]*\Z")
_BLANK_RUN = re.compile(r"(\n[ \t]*\n\s*)")


@dataclasses.dataclass(frozen=True, slots=True)
class LanguagesStage:
    """Makes a record for each language."""

    spec: Translate

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The language."""
        return {self.spec.language_column: "string"}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield one child per language."""
        for language in self.spec.languages:
            yield {self.spec.language_column: language}


@dataclasses.dataclass(frozen=True, slots=True)
class TranslateStage:
    """Translates the columns of a record into its language."""

    prompt: PromptTemplate
    spec: Translate
    count: tokens.Count

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """The translations."""
        return {name + self.spec.suffix: "string" for name in self.spec.columns}

    async def run(self, record: records.Record, llm: StageLlm) -> AsyncIterator[records.Columns]:
        """Yield the record with its translations; what is null or blank stays so."""
        made: records.Columns = {}
        for name in self.spec.columns:
            text = record.columns.get(name)
            if text is not None and not isinstance(text, str):
                raise StageFailure("BadInput", f"column {name!r} holds no text")
            translated = text if not text or not text.strip() else None
            if text and translated is None:
                translated = await self._translate(record, llm, text)
            made[name + self.spec.suffix] = translated
        yield made

    async def _translate(self, record: records.Record, llm: StageLlm, text: str) -> str:
        """Return a text in the record's language, with the white space between its segments."""
        language = record.columns[self.spec.language_column]
        variables = {**record.columns, "language": language, "source": self.spec.source_language}
        parts = []
        for segment, is_text in split(text, self.spec.max_segment_tokens, self.count):
            if not is_text:
                parts.append(segment)
                continue
            completion = await llm.complete(self.prompt.render({**variables, "text": segment}))
            answer = _EQUALS.sub("", accept_text(completion)).strip()
            if is_cut_off(completion):
                raise cut_off("the translation", answer, " or lower maxSegmentTokens")
            parts.append(tidying.translation(answer, segment))
        return "".join(parts)


def split(
    text: str, max_tokens: int, count: tokens.Count = tokens.count
) -> Iterator[tuple[str, bool]]:
    """Yield the segments of a text and the white space between them; joined they are the text.

    Paragraphs are put together while they fit. One that is too long is cut at lines and sentences.
    """
    stripped = text.strip()
    start = text.index(stripped[0]) if stripped else len(text)
    if start:
        yield text[:start], False
    held: list[str] = []
    gap, size = "", 0
    for index, piece in enumerate(_BLANK_RUN.split(stripped)):
        if index % 2:
            gap = piece
            continue
        length = count(piece)
        if held and (longer := size + count(gap) + length) <= max_tokens:
            held += (gap, piece)
            size = longer
            continue
        if held:
            yield from _paragraph("".join(held), max_tokens, count)
            yield gap, False
        held, size = [piece], length
    yield from _paragraph("".join(held), max_tokens, count)
    if end := text[start + len(stripped) :]:
        yield end, False


def _paragraph(text: str, max_tokens: int, count: tokens.Count) -> Iterator[tuple[str, bool]]:
    if count(text) <= max_tokens:
        if text:
            yield text, True
        return
    position = 0
    for segment in segmenting.segments(text, max_tokens, count=count):
        # What lies between two segments is white space only.
        end = _end_of(text, segment, position)
        begin = position + len(text[position:end]) - len(text[position:end].lstrip())
        if begin > position:
            yield text[position:begin], False
        yield text[begin:end], True
        position = end
    if position < len(text):
        yield text[position:], False


def _end_of(text: str, segment: str, position: int) -> int:
    """Return where `segment` ends in a text, whatever the white space between its words."""
    for character in segment:
        if not character.isspace():
            position = text.index(character, position) + 1
    return position


def compile_stage(spec: Translate, context: CompileContext) -> Steps:
    """Return the steps of a `translate`."""
    stage = TranslateStage(context.prompt(spec.prompts, "translate.v1"), spec, context.count)
    languages = Step(
        LanguagesStage(spec), "languages", fields=(), cost=Cost(calls=0, rows=len(spec.languages))
    )
    by_segment = context.text_column in spec.columns
    cost = Cost(
        calls=len(spec.columns) - by_segment,
        segment_tokens=spec.max_segment_tokens,
        segment_calls=by_segment,
        echoes=True,
    )
    return Steps((languages, Step(stage, cost=cost)))
