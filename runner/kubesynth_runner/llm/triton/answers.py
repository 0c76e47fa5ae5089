"""What a server's answers say: responses of the wire to a text, a reason and counts. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton.tensors import TensorProblem, decode_numbers, decode_texts


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One response, or all of a stream put together. None is what was not said."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def read(response: Any, completion: str) -> Answer:
    """Read a `ModelInferResponse`.

    Raises:
        ClientError: MALFORMED_RESPONSE, it has no text, or a tensor in it is broken.
    """
    contents = {}
    for index, output in enumerate(response.outputs):
        contents[output.name] = (output, index)
    if completion not in contents:
        # A stream may end with a response that has nothing but its end in it.
        if not contents:
            return Answer("")
        raise _malformed(f"no output {completion}; it has {', '.join(contents)}")
    try:
        texts = _texts(response, *contents[completion])
        reasons = (
            _texts(response, *contents["finish_reason"]) if "finish_reason" in contents else []
        )
    except (TensorProblem, UnicodeDecodeError) as exc:
        raise _malformed(str(exc)) from exc
    return Answer(
        texts[0] if texts else "",
        _reason(reasons),
        _count(response, contents.get("num_input_tokens")),
        _count(response, contents.get("num_output_tokens")),
    )


def join(answers: Iterable[Answer]) -> Answer:
    """Return a stream's answers as one: texts one after the other, the last reason."""
    parts = list(answers)
    reasons = [part.finish_reason for part in parts if part.finish_reason]
    prompts = [part.prompt_tokens for part in parts if part.prompt_tokens is not None]
    counts = [part.completion_tokens for part in parts if part.completion_tokens is not None]
    return Answer(
        "".join(part.text for part in parts),
        reasons[-1] if reasons else None,
        max(prompts) if prompts else None,
        sum(counts) if counts else None,
    )


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Return a text up to the first stop in it, and whether there was one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _texts(response: Any, output: Any, index: int) -> list[str]:
    if index < len(response.raw_output_contents):
        elements = decode_texts(response.raw_output_contents[index])
    else:
        elements = list(output.contents.bytes_contents)
    return [element.decode() for element in elements]


def _count(response: Any, place: tuple[Any, int] | None) -> int | None:
    if place is None or place[1] >= len(response.raw_output_contents):
        return None
    numbers = decode_numbers(place[0].datatype, response.raw_output_contents[place[1]])
    return int(numbers[0]) if numbers and numbers[0] >= 0 else None


def _reason(reasons: Sequence[str]) -> str | None:
    """Return the finish reason; vLLM's backend writes a missing one as a word."""
    reason = reasons[0].strip() if reasons else ""
    return reason if reason and reason != "None" else None


def _malformed(what: str) -> ClientError:
    return ClientError(ErrorKind.MALFORMED_RESPONSE, f"the answer is no completion: {what}")
