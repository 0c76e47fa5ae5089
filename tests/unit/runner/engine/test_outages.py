"""What looks like the end of a run, and is a moment's, or one record's, trouble."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine.calls import CallFailed
from kubesynth_runner.io.journal import CallFrame
from kubesynth_runner.llm.absence import ABSENCE_LIMIT_SECONDS
from kubesynth_runner.llm.base import Capabilities, Completion, CompletionRequest
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time
from kubesynth_testing.call_desk import Desk, ScriptedClient, failure, run


def forbidden() -> ClientError:
    return ClientError(ErrorKind.AUTHENTICATION, "HTTP 403: no", status_code=403)


def test_model_that_is_missing_for_a_moment_costs_its_records_nothing(tmp_path: Path) -> None:
    def check(_: Desk, result: CallFrame | CallFailed, seconds: float) -> None:
        assert isinstance(result, CallFrame)
        assert (result.text, result.attempts) == ("So.", 1)
        assert seconds < ABSENCE_LIMIT_SECONDS

    away = [failure(ErrorKind.MODEL_NOT_FOUND)] * 3
    run([*away, "So."], tmp_path, check, max_attempts=1, is_alive=False)


def test_model_that_stays_missing_is_given_up_long_before_the_outage_limit(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(ScriptedClient([failure(ErrorKind.MODEL_NOT_FOUND)], is_alive=False), tmp_path)
        with pytest.raises(errors.RetryLaterError, match=r"'generator': it was ModelNotFound"):
            await desk.call()
        assert 10.0 < asyncio.get_running_loop().time() < 30.0
        assert desk.gate.admission.in_flight == 0
        assert not list(tmp_path.rglob("*.log"))

    virtual_time.run(main())


def test_record_is_not_failed_by_one_server_of_several_that_lacks_the_model(tmp_path: Path) -> None:
    def check(_: Desk, result: CallFrame | CallFailed, __: float) -> None:
        assert isinstance(result, CallFrame)
        assert result.text == "So."

    run([failure(ErrorKind.MODEL_NOT_FOUND)] * 5 + ["So."], tmp_path, check)


def test_a_prompt_that_is_forbidden_while_others_are_answered_fails_alone(tmp_path: Path) -> None:
    def check(desk: Desk, result: CallFrame | CallFailed, _: float) -> None:
        assert isinstance(result, CallFailed)
        assert (result.kind, result.status_code) == (ErrorKind.REFUSAL, 403)
        assert isinstance(desk.client, ScriptedClient)
        assert (len(desk.client.requests), desk.client.probes) == (1, 1)

    run([forbidden()], tmp_path, check)


def test_a_key_that_is_forbidden_everything_ends_the_process(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(ScriptedClient([forbidden()], trouble=forbidden()), tmp_path)
        with pytest.raises(errors.RetryLaterError, match="HTTP 403"):
            await desk.call()

    virtual_time.run(main())


def test_a_forbidden_prompt_waits_where_others_are_refused_for_the_time_being(
    tmp_path: Path,
) -> None:
    def check(_: Desk, result: CallFrame | CallFailed, __: float) -> None:
        assert isinstance(result, CallFrame)
        assert (result.text, result.attempts) == ("So.", 1)

    run([forbidden(), "So."], tmp_path, check, trouble=failure(ErrorKind.RATE_LIMITED))


class _Away(FakeChatClient):
    """Refuses connections until `there_at`; then each completion takes two minutes."""

    def __init__(self, there_at: float) -> None:
        super().__init__("So.")
        self._there_at = there_at
        self.began: list[float] = []

    def _refuse(self) -> None:
        if asyncio.get_running_loop().time() < self._there_at:
            raise failure(ErrorKind.CONNECTION)

    async def complete(self, request: CompletionRequest) -> Completion:
        self._refuse()
        self.began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(120.0)
        return await super().complete(request)

    async def probe(self) -> Capabilities:
        self._refuse()
        return await super().probe()


def test_after_an_outage_nobody_waits_for_the_first_long_answer(tmp_path: Path) -> None:
    async def main() -> list[float]:
        client = _Away(100.0)
        desk = Desk(client, tmp_path)  # of four slots
        await asyncio.gather(*(desk.call(f"r{number}") for number in range(8)))
        desk.journal.close()
        return client.began

    began = virtual_time.run(main())
    assert len(began) == 8
    # The pause between two questions, and the one beside the first of them.
    assert max(began[:4]) < 100.0 + 15.0 + 6.0
