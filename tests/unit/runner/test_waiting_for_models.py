"""Before a run begins its models must answer; meanwhile it is told which one does not."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from kubesynth_api.v1alpha1.models import ModelSpec
from kubesynth_runner import errors, models
from kubesynth_runner.engine.waiting import Waiting
from kubesynth_runner.llm.absence import ABSENCE_LIMIT_SECONDS
from kubesynth_runner.llm.base import Capabilities
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.fake import FakeChatClient
from kubesynth_testing import virtual_time

URL = "http://llm:8000/v1"
EXTERNAL = ModelSpec.model_validate({"name": "judge", "external": {"url": URL, "model": "m"}})
EMBEDDED = ModelSpec.model_validate({"name": "judge", "embedded": {}})


class _Starting(FakeChatClient):
    """Refuses, or hangs, until `there_at`; says from `missing_from` on that there is no model."""

    def __init__(
        self, there_at: float, *, hangs: bool = False, missing_from: float = math.inf
    ) -> None:
        super().__init__("So.")
        self._there_at = there_at
        self._hangs = hangs
        self._missing_from = missing_from

    async def probe(self) -> Capabilities:
        now = asyncio.get_running_loop().time()
        if now < self._there_at:
            if now >= self._missing_from:
                raise ClientError(ErrorKind.MODEL_NOT_FOUND, "HTTP 404: no such model")
            if not self._hangs:
                raise ClientError(ErrorKind.CONNECTION, f"refused [{URL}/models]")
            await asyncio.sleep(self._there_at - now)
        return await super().probe()


def _sentence_after(
    seconds: float, model: ModelSpec, client: FakeChatClient, caplog: pytest.LogCaptureFixture
) -> str:
    """Return what is told after some seconds; the model answers in the end."""
    caplog.set_level(logging.INFO)

    async def main() -> str:
        waiting = Waiting()
        wait = models._Wait(model, client, 3600.0, models.Patience(asyncio.Event(), waiting))
        probe = asyncio.create_task(wait.probe())
        await asyncio.sleep(seconds)
        sentence = waiting.sentence
        await probe
        assert not waiting.sentence
        return sentence

    return virtual_time.run(main())


def test_a_model_that_refuses_is_named_within_a_second(caplog: pytest.LogCaptureFixture) -> None:
    sentence = _sentence_after(1.0, EXTERNAL, _Starting(300.0), caplog)
    assert sentence == f"waiting for judge: refused [{URL}/models]"
    assert len(caplog.records) == 2  # that it waits, and that it does no more


def test_a_model_that_says_nothing_is_named_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = _Starting(300.0, hangs=True)
    sentence = _sentence_after(models.NOTICE_SECONDS + 1, EXTERNAL, client, caplog)
    assert sentence == f"waiting for judge: no answer yet [{URL}]"


@pytest.mark.parametrize(("model", "hangs"), [(EXTERNAL, True), (EMBEDDED, False)])
def test_a_model_that_is_soon_there_is_not_spoken_of(
    caplog: pytest.LogCaptureFixture, model: ModelSpec, hangs: bool
) -> None:
    client = _Starting(3.0, hangs=hangs)
    assert not _sentence_after(2.0, model, client, caplog)
    assert not caplog.records


def test_what_was_waited_for_is_still_known_after_a_stop() -> None:
    async def main() -> str:
        stop, waiting = asyncio.Event(), Waiting()
        wait = models._Wait(EXTERNAL, _Starting(300.0), 3600.0, models.Patience(stop, waiting))
        asyncio.get_running_loop().call_later(30.0, stop.set)
        with pytest.raises(errors.StoppedError):
            await wait.probe()
        return waiting.sentence

    assert virtual_time.run(main()) == f"waiting for judge: refused [{URL}/models]"


def _probe(client: FakeChatClient) -> float:
    """Wait for a model; return how long it took, on virtual time."""

    async def main() -> float:
        patience = models.Patience(asyncio.Event(), Waiting())
        await models._Wait(EXTERNAL, client, 3600.0, patience).probe()
        return asyncio.get_running_loop().time()

    return virtual_time.run(main())


def test_a_gateway_that_knows_no_model_for_a_moment_is_waited_for() -> None:
    """However long the server was not there before: its address may be somebody else's by then."""
    late = _Starting(60.0 + ABSENCE_LIMIT_SECONDS - 1.0, missing_from=60.0)
    assert _probe(late) < 60.0 + ABSENCE_LIMIT_SECONDS + models.LAST_POLL_SECONDS


def test_a_model_that_stays_away_is_hopeless() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"models\[judge\]: HTTP 404"):
        _probe(_Starting(300.0, missing_from=60.0))
