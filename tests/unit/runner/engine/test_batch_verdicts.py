"""What the end of a batch means: going on, ending the attempt, or ending the job."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine.batching import FRUITLESS_BATCHES
from kubesynth_runner.engine.calls import Deferred
from kubesynth_runner.io.journal import CallFrame
from kubesynth_testing import virtual_time
from kubesynth_testing.batch_desk import Desk, FakeBatches


def test_batch_that_is_invalid_ends_the_run(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches("failed: invalid_json_line"))
        with pytest.raises(errors.ConfigurationError, match="invalid_json_line: because"):
            await desk.round("a")
        desk.close()

    virtual_time.run(main())


def test_batches_that_bring_nothing_are_not_sent_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(*["expired"] * FRUITLESS_BATCHES))
        for _ in range(FRUITLESS_BATCHES - 1):
            assert all(isinstance(outcome, Deferred) for outcome in await desk.round("a"))
        with pytest.raises(errors.RetryLaterError, match="3 batches in a row"):
            await desk.round("a")
        desk.close()

    virtual_time.run(main())


def test_lines_that_no_account_pays_for_go_round_again_when_all_is_taken_in(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(), max_requests=2)
        # Two batches with such lines, between good ones, and one without.
        texts = ("a", "unpaid 1", "unpaid 2", "b", "c")
        await desk.ask(*texts)
        await desk.caller.send_off()
        with pytest.raises(
            errors.RetryLaterError, match=r"1 of.*batch b-1 of 2 requests.*your quota"
        ):
            await desk.caller.settle()
        assert desk.book.load() == {}
        desk.close()
        again = Desk(tmp_path, FakeBatches(), epoch=2)
        outcomes = await again.ask(*texts)
        kinds = [CallFrame, Deferred, Deferred, CallFrame, CallFrame]
        assert [type(outcome) for outcome in outcomes] == kinds
        again.close()

    virtual_time.run(main())
