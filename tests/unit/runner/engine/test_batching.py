"""Collecting calls and taking answers in, on virtual time, with a batch API in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.engine import batching
from kubesynth_runner.engine.calls import CallFailed, Deferred
from kubesynth_runner.io.journal import CallFrame, Unfinished
from kubesynth_runner.llm.base import TokenUsage
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_testing import virtual_time
from kubesynth_testing.batch_desk import DONE, Desk, FakeBatches


def test_answers_are_found_in_the_journal_in_whatever_order_they_came(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches(), max_requests=3)
        frames = await desk.round(*"abcdefgh")
        assert [frame.text for frame in frames if isinstance(frame, CallFrame)] == [
            f"About {text}" for text in "abcdefgh"
        ]
        assert desk.caller.has_open is False
        assert desk.book.load() == {}
        desk.close()

    virtual_time.run(main())


def test_batches_keep_to_the_limits(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api, max_requests=3)
        await desk.ask(*"abcdefgh")
        await desk.caller.send_off()
        assert [len(lines) for lines in api.inputs.values()] == [3, 3, 2]
        large = Desk(tmp_path, api, epoch=2, max_bytes=600)
        await large.ask(*"ijklmn")
        await large.caller.send_off()
        sent = [json.dumps(lines) for lines in api.inputs.values()][3:]
        assert len(sent) > 1
        assert all(len(lines) < 700 for lines in sent)
        desk.close()
        large.close()

    virtual_time.run(main())


def test_failures_go_round_again_until_attempts_run_out(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches())
        for _ in range(2):
            good, bad = await desk.round("good", "bad")
            assert isinstance(good, CallFrame)
            assert isinstance(bad, Deferred)
        good, bad = await desk.round("good", "bad")
        assert isinstance(bad, CallFailed)
        assert (bad.attempts, bad.status_code) == (3, 500)
        desk.close()

    virtual_time.run(main())


def test_empty_answers_are_counted_once_each_however_often_they_are_read(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api)
        await desk.ask("mute", "cut")
        for _ in range(3):
            await desk.caller.send_off()
            state, (batch,) = api.batches[f"b-{api.created}"], desk.book.load().values()
            # It breaks off at its end.
            await desk.caller._take_in(desk.binding.connection, batch, state)
            await desk.caller.settle()
            desk.journal.reopen(DONE)
            mute, cut = await desk.ask("mute", "cut")
            assert isinstance(cut, CallFailed)  # more of the same would be cut off, too
            assert cut.attempts == 1
        assert isinstance(mute, CallFailed)
        assert mute.attempts == 3
        lost: list[TokenUsage] = []
        with pytest.raises(CallFailed):
            await desk.ask_once("mute", lost.append)
        assert lost == [TokenUsage(7, 30)] * 3
        assert desk.journal.unfinished == {0: Unfinished(4 * 7, 4 * 30)}
        desk.close()

    virtual_time.run(main())


def test_batch_is_created_once_when_its_answer_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        api.trouble = [ClientError(ErrorKind.CONNECTION, "cut off")]
        desk = Desk(tmp_path, api)
        (frame,) = await desk.round("a")
        assert isinstance(frame, CallFrame)
        assert api.created == 1
        desk.close()

    virtual_time.run(main())


@pytest.mark.parametrize("created", [True, False])
def test_next_attempt_takes_a_batch_up_whose_id_was_never_written_down(
    tmp_path: Path, created: bool
) -> None:
    async def main() -> None:
        api = FakeBatches()
        first = Desk(tmp_path, api)
        api.trouble = [ClientError(ErrorKind.AUTHENTICATION, "and then it died")]
        await first.ask("a")
        with pytest.raises(errors.RetryLaterError):
            await first.caller.send_off()
        if not created:
            api.tokens.clear()
        second = Desk(tmp_path, api, epoch=2)
        assert await second.caller.settle()
        second.journal.reopen(DONE)
        (outcome,) = await second.ask("a")
        assert isinstance(outcome, CallFrame if created else Deferred)
        assert second.book.load() == {}
        first.close()
        second.close()

    virtual_time.run(main())


def test_batch_that_the_endpoint_has_forgotten_is_for_a_person_to_judge(tmp_path: Path) -> None:
    async def main() -> None:
        api = FakeBatches()
        desk = Desk(tmp_path, api)
        await desk.ask("a")
        await desk.caller.send_off()
        api.batches.clear()
        (path,) = desk.book.load()
        with pytest.raises(errors.ConfigurationError, match=f"delete {path} in the output"):
            await desk.caller.settle()
        assert list(desk.book.load()) == [path]
        desk.close()

    virtual_time.run(main())


def test_a_result_is_read_no_faster_than_the_journal_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "RESULT_SYNC_BYTES", 500)
    unsaved: list[bool] = []

    async def main() -> None:
        desk = Desk(tmp_path, FakeBatches())
        sync = desk.journal.sync

        def watched() -> None:
            unsaved.append(desk.journal.dirty)
            sync()

        monkeypatch.setattr(desk.journal, "sync", watched)
        frames = await desk.round(*(f"question {number}" for number in range(20)))
        assert all(isinstance(frame, CallFrame) for frame in frames)
        desk.close()

    virtual_time.run(main())
    assert sum(unsaved) > 5
