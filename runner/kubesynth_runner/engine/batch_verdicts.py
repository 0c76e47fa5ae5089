"""What the end of a batch, and of a round of them, means for those to come. Pure.

A server that brings nothing to use is paid for nothing, and would be asked for ever: what counts
is what has come into the journal, and not what the server says of itself.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection

from kubesynth_runner.llm.batch_wire import BatchCall
from kubesynth_runner.llm.errors import ClientError

# So many batches in a row that bring nothing are an outage.
FRUITLESS_BATCHES = 3
# Too many tokens are waiting in the account's other batches.
_FULL_QUEUE_CODES = frozenset({"token_limit_exceeded", "rate_limit_exceeded"})
# The file itself, or the model that it is for: OpenAI's names, and Azure's where they differ.
_INVALID_CODES = frozenset(
    {
        "duplicate_custom_id",
        "empty_batch",
        "empty_file",
        "invalid_json_line",
        "invalid_method",
        "invalid_request",
        "invalid_url",
        "mismatched_endpoint",
        "mismatched_model",
        "missing_required_parameter",
        "model_mismatch",
        "model_not_found",
        "too_many_tasks",
        "url_mismatch",
    }
)


class Verdict(enum.Enum):
    """What has come of a batch."""

    FRUITFUL = enum.auto()  # answers
    FRUITLESS = enum.auto()  # it was carried out, or tried, without an answer to use
    QUEUE_FULL = enum.auto()  # not begun: others have to end first
    INVALID = enum.auto()  # not begun, and it never would be: somebody has to change the spec
    REFUSED = enum.auto()  # not begun, for what is no fault of the job's, such as an empty account


@dataclasses.dataclass(slots=True)
class Intake:
    """What has come of the calls of one batch. A line may be read, and counted, twice."""

    # Calls that have come to their end, by an answer or for a reason that lies in them.
    answered: int = 0
    # Calls that have spent an attempt on an error of the server.
    spent: int = 0
    # Calls that failed of what only a person can mend, by key.
    fatal: dict[bytes, tuple[BatchCall, ClientError]] = dataclasses.field(default_factory=dict)
    # Why the last one of the answers that are of no use is of none.
    trouble: str = ""

    def may_have_refusals(self, requests: int) -> bool:
        """Tell whether calls of a batch of so many may have been forbidden for their prompts.

        Where nobody was answered, it is more likely that the key may not have batches.
        """
        forbidden = any(failure.is_forbidden for _, failure in self.fatal.values())
        return forbidden and (self.answered > 0 or requests == 1)


def judge(status: str, codes: Collection[str], intake: Intake) -> Verdict:
    """Return what has come of a batch that ended as `status`, refused as a whole for `codes`."""
    if intake.answered:
        return Verdict.FRUITFUL
    if status != "failed":
        return Verdict.FRUITLESS
    if not _FULL_QUEUE_CODES.isdisjoint(codes):
        return Verdict.QUEUE_FULL
    return Verdict.REFUSED if _INVALID_CODES.isdisjoint(codes) else Verdict.INVALID


@dataclasses.dataclass(slots=True)
class Harvest:
    """Whether the batches of one model bring anything, over one round and those before it."""

    # Batches in a row that have brought nothing.
    fruitless: int = 0
    # Whether calls have spent attempts on them: then records may be at fault, and not the server.
    has_spent: bool = False
    # What the last one of them ended of.
    trouble: str = ""
    _has_fruit: bool = False

    def on_end(self, verdict: Verdict, intake: Intake, trouble: str) -> None:
        """Note a batch that was let in."""
        if verdict is Verdict.FRUITFUL:
            self._has_fruit = True
            return
        self.fruitless += 1
        self.has_spent = self.has_spent or intake.spent > 0
        self.trouble = trouble

    def end_round(self) -> bool:
        """Return whether it is enough: batch after batch, and nothing beside them either."""
        if self._has_fruit:
            self.forgive()
        return self.fruitless >= FRUITLESS_BATCHES

    def forgive(self) -> None:
        """Begin anew: there was an answer."""
        self.fruitless, self.has_spent, self.trouble, self._has_fruit = 0, False, "", False
