"""Scores of reward models that answer a conversation with named numbers. Pure but for the asking.

Two forms, and servers give either or both: the content as `name:number` pairs, and logprobs whose
tokens are the names and whose "log probabilities" the numbers.
Source: NVIDIA NIM for LLMs, "Use Reward Models"; the model cards of Nemotron-4-340B-Reward
(helpfulness, correctness, coherence, complexity, verbosity, about 0 to 4) and of
Llama-3.1-Nemotron-70B-Reward (one `reward`, on no fixed scale).
"""

from __future__ import annotations

import dataclasses
import math
import re

from kubesynth_runner.llm.base import Completion, Message
from kubesynth_runner.pipelines.base import StageFailure, StageLlm
from kubesynth_runner.pipelines.scoring import Scores, Subject

DEFAULT_ATTRIBUTE = "helpfulness"
_PAIR = re.compile(r"\s*\"?([A-Za-z_]\w*)\"?\s*[:=]\s*(\S+)\s*")
_SHOWN_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class AttributeScorer:
    """Sends the conversation, and takes `attribute` of the answer as the overall score.

    Without an `attribute` it is helpfulness, or the only one. All of `required` must be there.
    """

    attribute: str | None
    required: tuple[str, ...] = ()

    async def score(self, subject: Subject, llm: StageLlm) -> Scores:
        """Ask the reward model."""
        answer = Message("assistant", subject.answer)
        completion = await llm.complete((*subject.asked, answer))
        by_name = read(completion)
        wanted = (self.attribute, *self.required) if self.attribute else self.required
        missing = [name for name in wanted if name not in by_name]
        if missing:
            raise _unusable(
                f"no score {', '.join(missing)}; the reward model gives {', '.join(by_name)}",
                completion,
            )
        return Scores(by_name, self._overall(by_name, completion))

    def _overall(self, by_name: dict[str, float], completion: Completion) -> float:
        if self.attribute is not None:
            return by_name[self.attribute]
        if len(by_name) == 1:
            return next(iter(by_name.values()))
        if DEFAULT_ATTRIBUTE in by_name:
            return by_name[DEFAULT_ATTRIBUTE]
        raise _unusable(
            f"set attribute to the one that counts: the reward model gives {', '.join(by_name)}",
            completion,
        )


def read(completion: Completion) -> dict[str, float]:
    """Return the scores in an answer, by name.

    The content comes first: it has all digits.

    Raises:
        StageFailure: there are none, or one is no finite number.
    """
    pairs = _in_text(completion.text)
    if not pairs and (logprobs := completion.logprobs) is not None:
        pairs = list(zip(logprobs.tokens, logprobs.logprobs, strict=True))
        if not all(name.isidentifier() for name, _ in pairs):
            pairs = []
    if not pairs:
        raise _unusable(
            "the answer has no scores (name:number, or logprobs by attribute): is it a reward "
            "model? A chat model scores with method Judge",
            completion,
        )
    found: dict[str, float] = {}
    for name, value in pairs:
        if name in found:
            raise _unusable(f"the answer has two scores {name}", completion)
        if not math.isfinite(value):
            raise _unusable(f"the score {name} is {value}", completion)
        found[name] = value
    return found


def _in_text(text: str) -> list[tuple[str, float]]:
    """Return `name:number` pairs, or nothing if the text is anything else."""
    pairs = []
    for part in text.strip().strip("{}").split(","):
        match = _PAIR.fullmatch(part)
        if match is None:
            return []
        try:
            pairs.append((match[1], float(match[2])))
        except ValueError:
            return []
    return pairs


def _unusable(message: str, completion: Completion) -> StageFailure:
    return StageFailure("UnusableScore", message, completion.text[:_SHOWN_CHARACTERS])
