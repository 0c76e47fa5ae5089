"""Answers of ended batches on their way into the journal, and what is known of calls meanwhile."""

from __future__ import annotations

import logging

from kubesynth_runner.engine import frames
from kubesynth_runner.engine.batch_verdicts import Intake
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.io.journal import CallFrame, Journal
from kubesynth_runner.llm import batch_wire
from kubesynth_runner.llm.base import Completion
from kubesynth_runner.llm.errors import BACKPRESSURE, FATAL, ClientError, ErrorKind
from kubesynth_runner.tally import Tally

LOG = logging.getLogger(__name__)


class Answers:
    """Journals what comes back. One instance per shard and process."""

    def __init__(self, journal: Journal, tally: Tally) -> None:
        """`tally` counts the calls that go round again."""
        self._journal = journal
        self._tally = tally
        # Tries that calls have behind them, by key, where there was one.
        self.attempts: dict[bytes, int] = {}
        # Keys of the calls of this process that have come to their end since the last pass.
        self.finished: set[bytes] = set()

    def finish(
        self,
        connection: ModelConnection,
        call: batch_wire.BatchCall,
        result: Completion | ClientError,
    ) -> CallFrame:
        """Journal a call that has come to its end."""
        self.attempts.pop(call.key, None)
        frame = frames.from_outcome(
            (result, call.attempts + 1),
            call.key,
            call.request_hash,
            call.ordinal,
            connection.place,
        )
        self._journal.append(frame)
        return frame

    def take_line(
        self,
        connection: ModelConnection,
        batch_id: str,
        line: bytes,
        intake: Intake,
        *,
        is_ours: bool,
    ) -> None:
        """Journal what a line of a batch's files says, or let its call go round again.

        `is_ours` says that this process has sent the batch off: an older version may have asked in
        other words.
        """
        try:
            call, result = batch_wire.read_line(line)
        except ValueError as exc:
            LOG.warning("a line was skipped", extra={"detail": str(exc)})
            intake.trouble = str(exc)
            return
        if isinstance(result, ClientError) and self._goes_round_again(
            connection, batch_id, call, result, intake
        ):
            return
        if not isinstance(result, ClientError) or not result.may_pass:
            intake.answered += 1
        self._end(connection, call, result, is_ours=is_ours)

    def take_refusals(self, connection: ModelConnection, intake: Intake, *, is_ours: bool) -> None:
        """Journal the calls that were not allowed as refusals, where the model allows others."""
        for call, failure in list(intake.fatal.values()):
            if not failure.is_forbidden:
                continue
            failure.kind = ErrorKind.REFUSAL
            del intake.fatal[call.key]
            intake.answered += 1
            self._end(connection, call, failure, is_ours=is_ours)

    def _end(
        self,
        connection: ModelConnection,
        call: batch_wire.BatchCall,
        result: Completion | ClientError,
        *,
        is_ours: bool,
    ) -> None:
        self.finish(connection, call, result)
        if is_ours:
            self.finished.add(call.key)

    def _goes_round_again(
        self,
        connection: ModelConnection,
        batch_id: str,
        call: batch_wire.BatchCall,
        failure: ClientError,
        intake: Intake,
    ) -> bool:
        if failure.kind in FATAL:
            intake.fatal[call.key] = (call, failure)
            self.attempts[call.key] = call.attempts
            return True
        if failure.answer is not None and failure.answer.usage.total_tokens:
            # Paid for, whatever becomes of the call, and once however often it is read.
            name = f"{batch_id}.{call.attempts}"
            named = (call.key, call.request_hash, call.ordinal)
            self._journal.append(frames.of_lost(failure.answer, name, named, connection.place))
        if not failure.may_pass:
            return False
        intake.trouble = str(failure)
        if failure.kind in BACKPRESSURE:
            self.attempts[call.key] = call.attempts
            return True
        intake.spent += 1
        if call.attempts + 1 >= connection.max_attempts:
            return False
        self.attempts[call.key] = call.attempts + 1
        self._tally.requests_retried += 1
        return True
