from __future__ import annotations

from kubesynth_runner.tally import Tally

ONE = Tally(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def test_counters_add_up_field_by_field() -> None:
    total = ONE.copy()
    total.add(ONE)
    assert total == Tally(2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22)
    assert total.minus(ONE) == ONE


def test_a_copy_is_a_tally_of_its_own() -> None:
    copy = ONE.copy()
    copy.done += 1
    assert ONE.done == 1


def test_totals_are_what_the_operator_reads() -> None:
    assert ONE.to_totals(20).to_wire() == {
        "records": {"in": 20, "done": 1, "accepted": 3, "filtered": 4, "failed": 5},
        "tokens": {"prompt": 6, "completion": 7, "estimated": 11},
        "requests": {"ok": 8, "retried": 9, "rateLimited": 10},
    }


def test_kinds_of_failures_are_counted_whatever_the_order() -> None:
    one, two = Tally(failed=2), Tally(failed=1)
    one.note_failure("BadInput", "b" * 1000)
    one.note_failure("Refusal", "no")
    two.note_failure("BadInput", "a")
    left, right = one.copy(), two.copy()
    left.add(two)
    right.add(one)
    assert left == right
    assert left.failures() == [("BadInput", 2, "a"), ("Refusal", 1, "no")]
    assert len(one.failures()[0][2]) == 300
    assert one.failures() == [("BadInput", 1, "b" * 300), ("Refusal", 1, "no")]
