"""Models that answer nobody: noticing it, asking whether they are back, giving up on them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator

from kubesynth_runner.engine.breaker import Breaker
from kubesynth_runner.engine.connection import ModelConnection
from kubesynth_runner.engine.silence import Silence
from kubesynth_runner.engine.waiting import Waiting
from kubesynth_runner.llm.errors import ClientError, ErrorKind

LOG = logging.getLogger(__name__)

# A server that takes longer for next to nothing does not answer.
PROBE_LIMIT_SECONDS = 30.0
# A request that asks whether a server is back may take minutes to answer: beside it the server is
# asked for next to nothing, so that the others need not wait for its last word.
ASK_BESIDE_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class _Health:
    """What is known of one model's failures, and the question under way whether it answers."""

    silence: Silence
    breaker: Breaker = dataclasses.field(default_factory=Breaker)
    verdict: asyncio.Task[bool] | None = None


class Outages:
    """What is known of the models of one event loop that give no answers."""

    def __init__(self) -> None:
        # Who is told of models that do not answer.
        self.waiting = Waiting()
        self._health: dict[str, _Health] = {}

    def on_answer(self, connection: ModelConnection) -> None:
        """Note an answer, or a refusal that blames the request alone."""
        self.waiting.answers(connection.role)
        health = self._health.get(connection.role)
        if health is not None:  # something has failed before
            health.silence.on_answer()
            health.breaker.on_answer()
        admission = connection.gate.admission
        was_out = admission.outage_since is not None
        admission.on_answer()
        if was_out:
            connection.gate.on_change()  # the slot that asked was given back before

    def give_up_if_fatal(self, connection: ModelConnection, failure: ClientError) -> None:
        """Note a failure.

        Raises:
            RetryLaterError: no record can succeed until a person changes something.
        """
        self._of(connection).silence.give_up_if_fatal(failure, _now())

    def note_silence(self, connection: ModelConnection, failure: ClientError) -> None:
        """Tell of an outage.

        Raises:
            RetryLaterError: the model has answered nobody for too long.
        """
        if connection.gate.admission.outage_since is not None:
            self.waiting.waits(connection.role, failure)
        self._of(connection).silence.give_up_if_long(failure, _now())

    async def is_one(self, connection: ModelConnection) -> bool:
        """Return whether an error of the server is one of an outage, asking it if need be."""
        if connection.gate.admission.outage_since is not None:
            return True
        health = self._of(connection)
        if health.verdict is None:
            if not health.breaker.on_error(_now()):
                return False
            health.verdict = asyncio.create_task(self._judge(connection, health))
        # Shared by all who wait, so that one of them may be cancelled.
        return not await asyncio.shield(health.verdict)

    async def _judge(self, connection: ModelConnection, health: _Health) -> bool:
        """Find out whether a model that has failed several records in a row answers others."""
        try:
            answers = await self.answers_others(connection)
        finally:
            health.verdict = None
        if answers:
            health.breaker.acquit(_now())
        else:
            LOG.warning("the model answers nobody: pausing", extra={"model": connection.role})
            connection.gate.admission.on_outage(_now())
            connection.gate.on_change()
        return answers

    async def answers_others(self, connection: ModelConnection) -> bool:
        """Return whether the model answers when it is asked for next to nothing."""
        return await self.ask(connection) is None

    async def ask(self, connection: ModelConnection) -> ClientError | None:
        """Ask the model for next to nothing; return what came instead of an answer."""
        try:
            async with asyncio.timeout(PROBE_LIMIT_SECONDS):
                await connection.client.probe()
        except ClientError as failure:
            return failure
        except TimeoutError:
            return ClientError(ErrorKind.TIMEOUT, f"no answer within {PROBE_LIMIT_SECONDS:.0f} s")
        self.on_answer(connection)
        return None

    @contextlib.asynccontextmanager
    async def asking_beside(self, connection: ModelConnection) -> AsyncIterator[None]:
        """Around a request during an outage: find out sooner than by its answer that it is over."""
        beside = asyncio.create_task(self._ask_beside(connection))
        try:
            yield
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    async def _ask_beside(self, connection: ModelConnection) -> None:
        while connection.gate.admission.outage_since is not None:
            await asyncio.sleep(ASK_BESIDE_SECONDS)
            await self.answers_others(connection)

    def _of(self, connection: ModelConnection) -> _Health:
        health = self._health.get(connection.role)
        if health is None:
            silence = Silence(connection.role, connection.outage_limit_seconds)
            health = self._health[connection.role] = _Health(silence)
        return health


def _now() -> float:
    return asyncio.get_running_loop().time()
