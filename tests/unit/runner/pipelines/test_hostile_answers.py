"""Answers that go on and on: reading one takes time in proportion to its length.

A model in a loop fills all of maxTokens with one piece. What reads it holds up every other record
of its pod.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import pytest

from kubesynth_runner import pipelines
from kubesynth_runner.pipelines import (
    conversation,
    labels,
    lists,
    pairs,
    tidying,
    tokens,
    translate,
)

Read = Callable[[str], object]
READERS: dict[str, Read] = {
    "titles": lists.parse,
    "whole": functools.partial(lists.parse, form="Whole"),
    "leaves": functools.partial(lists.parse, form="Leaves"),
    "few-wanted": functools.partial(lists.parse, expected=3, form="Whole"),
    "pairs": pairs.parse,
    "text": tidying.tidy,
    "translation": functools.partial(tidying.translation, text="One."),
    "label": functools.partial(labels.parse, labels=("math", "other")),
    "message": conversation.user_message,
}


class Work:
    """How many characters patterns have read."""

    def __init__(self) -> None:
        self.characters = 0


class CountedPattern:
    """A pattern that counts what it reads: up to the end of its match, or all if there is none."""

    def __init__(self, pattern: re.Pattern[str], work: Work) -> None:
        self.pattern = pattern
        self.work = work

    def _count(self, match: re.Match[str] | None, missed: int, start: int) -> re.Match[str] | None:
        self.work.characters += missed if match is None else match.end() - start + 1
        return match

    def search(self, text: str, start: int = 0, *more: int) -> re.Match[str] | None:
        return self._count(self.pattern.search(text, start, *more), len(text) - start, start)

    def match(self, text: str, start: int = 0, *more: int) -> re.Match[str] | None:
        return self._count(self.pattern.match(text, start, *more), 1, start)

    def fullmatch(self, text: str, start: int = 0, *more: int) -> re.Match[str] | None:
        return self._count(self.pattern.fullmatch(text, start, *more), 1, start)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.work.characters += len(arguments[-1])
            return getattr(self.pattern, name)(*arguments, **keywords)

        return call


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Counts the work of all patterns of the stages."""
    counted = Work()
    for found in pkgutil.iter_modules(pipelines.__path__, f"{pipelines.__name__}."):
        module = importlib.import_module(found.name)
        for name, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, name, CountedPattern(value, counted))
    return counted


WRAPPED = {
    "number": ("1. One\n", "and goes on in words\n"),
    "bullet": ("- One\n", "and goes on in words\n"),
    "indented": ("1. One\n", "   And goes on in words.\n"),
    "long-title": ("1. " + "A title of many words " * 4 + "\n", "that goes on\n"),
    "bold": ("1. **One\n", "   and goes on**\n"),
    "below-a-heading": ("1. **One**\n2. **Two**\n", "Words that go on\n"),
    "below-a-question": ("1. What?\n", "   Name: of it\n"),
    "blank": ("1. What?\n", " \n"),
    "rules": ("", "---\n"),
    "fences": ("1. One\n", "   ```\n   x\n   ```\n"),
    "paragraphs-of-code": ("Words.\n\n", "```\nx\n```\n\n"),
    "questions": ("", "Question: What?\nAnswer: that\n"),
    "items": ("", "1. One\n"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", WRAPPED)
def test_work_grows_with_the_number_of_lines(work: Work, reader: str, shape: str) -> None:
    before, line = WRAPPED[shape]
    done = []
    for lines in (100, 400):
        work.characters = 0
        READERS[reader](before + line * lines)
        done.append(work.characters)
    assert done[1] <= 5 * done[0], done


LONG, LINES = 40_000, 6_000
# Of each, twice as much would take four times as long, if it were looked through again and again.
LOOPS = {
    "spaces-in-a-fence": "```\n" + " " * LONG + "x",
    "spaces-behind-a-string": '["a"' + " " * LONG + "x",
    "spaces-in-a-table": "| a |\n|" + " " * LONG + "x-\n",
    "spaces-in-a-heading": "# a" + " " * LONG + "b",
    "spaces-in-an-item": "1. a\n   b" + " " * LONG + "c",
    "spaces-in-a-line": "a, b," + " " * LONG + "c",
    "single-quotes": "['" + "'a" * LONG + "' x",
    "curly-quotes": "\u201c" * LONG,
    "conjunctions": "a, " + "b and " * (LONG // 2) + "c,d",
    "tags": "<li>" * LONG,
    "objects": '{"' * LONG,
    "nested-objects": '{"a":' * LONG,
    "columns": "|1" * LINES + "\n|---|\n" + "|1\n" * LINES,
    "a-fence-without-an-end": "```" + "a" * LONG,
    "a-fence-in-an-item": "1. One\n```" + "1" * LONG,
    "two-long-fences": "`" * 4 * LONG + "\n" + "`" * (4 * LONG - 1) + "x",
    "two-long-fences-of-waves": "~" * 4 * LONG + "\n" + "~" * (4 * LONG - 1) + "x",
    "digits-in-a-title": '[{"title":"' + "1" * LONG + ' a","description":"b"}]',
    "blank-lines": "1. a?\n" + " \n" * LINES + "x",
    "blank-lines-first": " \n" * LINES + "Words.\n\nMore words.",
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("reader", ["titles", "whole", "pairs", "text"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_is_read_at_once(reader: str, loop: str) -> None:
    READERS[reader](LOOPS[loop])


@pytest.mark.timeout(5)
@pytest.mark.parametrize("text", ["-" * LONG + " x", "x " + "-" * LONG, "-_" * LONG + " x"])
def test_a_loop_of_signs_that_are_a_label_is_read_at_once(text: str) -> None:
    assert labels.parse(text, ("+", "-", "0", "--y")) in (None, "-")


def test_signs_around_a_label_are_none_of_it() -> None:
    signs = "-" * 100
    known = ("+", "-a", "b")
    assert labels.parse(f"{signs}-a{signs}", known) == "-a"
    assert labels.parse(f"{signs} b {signs}", known) == "b"
    assert labels.parse(signs, ("+", "-")) == "-"


@pytest.mark.parametrize("max_tokens", [500, 100_000])
def test_paragraphs_are_counted_once(max_tokens: int) -> None:
    done = []
    for paragraphs in (500, 2_000):
        work = Work()

        def count(text: str, work: Work = work) -> int:
            work.characters += len(text)
            return tokens.count(text)

        text = "word\n\n" * paragraphs
        assert "".join(part for part, _ in translate.split(text, max_tokens, count)) == text
        done.append(work.characters)
    assert done[1] <= 5 * done[0], done
