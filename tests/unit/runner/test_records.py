from __future__ import annotations

from kubesynth_runner import records


def test_ids_never_change() -> None:
    """Written down, because a resumed run must find the ids that it had."""
    assert records.root_id("file:///docs/a.jsonl", 7) == "ddc748045d076bdc221c4df1f5c1d1fe"
    assert records.root_id_of_user_id("k1") == "50c8e19c0a514fb200288d481ab97813"
    assert records.child_id("p", 1, 2) == "d97dc757645864da9da9ba7524e6edc9"
    assert records.derive_seed(1, "r", 0, 0) == 899395065


def test_ids_do_not_run_into_each_other() -> None:
    ids = {
        records.root_id("a", 11),
        records.root_id("a1", 1),
        records.root_id_of_user_id("a1"),
        records.child_id("a", 1, 11),
        records.child_id("a", 11, 1),
        records.child_id("a1", 1, 1),
    }
    assert len(ids) == 6


def test_child_carries_lineage_columns_and_provenance() -> None:
    source = records.Source("file:///a", 1)
    first = records.CallProvenance("s0", "m", "h", 1, 2, 3, "stop", 1)
    second = records.CallProvenance("s1", "m", "h", 1, 2, 3, "stop", 1)
    root = records.Record("r", None, "r", (), {"text": "t", "q": "old"}, source)
    child = root.child(0, 4, {"q": "new"}, (first,))
    grandchild = child.child(1, 0, {"a": "b"}, (second,))
    assert (grandchild.parent_id, grandchild.root_id) == (child.record_id, "r")
    assert grandchild.path == (4, 0)
    assert grandchild.columns == {"text": "t", "q": "new", "a": "b"}
    assert grandchild.provenance == (first, second)
    assert root.columns["q"] == "old"


def test_seeds_are_in_the_range_that_every_server_takes() -> None:
    seeds = {records.derive_seed(seed, "r", 0, call) for seed in range(50) for call in range(20)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)
