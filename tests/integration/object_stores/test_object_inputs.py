"""Input from real object stores: what is found, what is read, what is asked for, what is said."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import inputs, partition, readers, sampling, source, survey
from kubesynth_runner.io.mounts import Mounts
from kubesynth_testing.object_stores import SECRET, ObjectStoreServer, input_spec, upload

NAMES = (
    "docs/a.jsonl",
    "docs/b.jsonl.gz",
    "docs/c.parquet",
    "docs/note.txt",
    "docs/picture.png",
    "docs/.hidden.jsonl",
    "docs/_SUCCESS",
    "docs/deep/d.jsonl",
    "docs/deep/er/e.jsonl",
    "docs/deep/_temporary/f.jsonl",
    "docs/part [1].jsonl",
    "docs2/g.jsonl",
)


def jsonl(rows: int, start: int = 0) -> bytes:
    lines = (json.dumps({"id": n, "text": f"text {n}"}) for n in range(start, start + rows))
    return ("\n".join(lines) + "\n").encode()


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def found(spec: InputSpec, server: ObjectStoreServer) -> list[str]:
    files = inputs.find(inputs.open_source(spec, server.mounts), spec)
    return ["/".join(file.uri.split("/")[3:]) for file in files]


def read_all(spec: InputSpec, server: ObjectStoreServer, shards: int = 1) -> list[Any]:
    """Return the texts of all records, shard after shard."""
    origin = inputs.open_source(spec, server.mounts)
    seen = survey.survey(origin, inputs.find(origin, spec), spec, sampling.of(spec, 1))
    parts = partition.assign(seen.files, shards, spec.limit, seen.duplicates)
    return [
        item.record.columns[spec.text_column]
        for part in parts
        for item in source.read_partition(
            part, spec, origin, bytes(part.records // 8 + 1), sampling.of(spec, 1)
        )
    ]


@pytest.fixture
def bucket(any_store: ObjectStoreServer) -> str:
    name = any_store.make_bucket()
    upload(any_store, name, dict.fromkeys(NAMES, b'{"text": "x"}\n'))
    return name


def test_patterns_find_objects_as_they_find_files(
    any_store: ObjectStoreServer, bucket: str
) -> None:
    expected = {
        "docs/a.jsonl": ["docs/a.jsonl"],
        "docs/*.jsonl": ["docs/a.jsonl", "docs/part [1].jsonl"],
        "docs/?.jsonl": ["docs/a.jsonl"],
        "docs/**/*.jsonl": [
            "docs/a.jsonl",
            "docs/deep/d.jsonl",
            "docs/deep/er/e.jsonl",
            "docs/part [1].jsonl",
        ],
        "docs/deep/**": ["docs/deep/d.jsonl", "docs/deep/er/e.jsonl"],
        "docs*/g.jsonl": ["docs2/g.jsonl"],
        "docs/part [1].jsonl": ["docs/part [1].jsonl"],
        "docs/deep/_temporary/*": ["docs/deep/_temporary/f.jsonl"],
        "docs/.hidden.jsonl": ["docs/.hidden.jsonl"],
        "docs": [
            "docs/a.jsonl",
            "docs/b.jsonl.gz",
            "docs/c.parquet",
            "docs/deep/d.jsonl",
            "docs/deep/er/e.jsonl",
            "docs/note.txt",
            "docs/part [1].jsonl",
        ],
    }
    for pattern, names in expected.items():
        assert found(input_spec(any_store, f"{bucket}/{pattern}"), any_store) == names, pattern
    assert len(found(input_spec(any_store, f"{bucket}/"), any_store)) == 8


def test_what_is_read_is_what_was_put(any_store: ObjectStoreServer) -> None:
    bucket = any_store.make_bucket()
    table = pa.table({"text": [f"text {n}" for n in range(300, 400)]})
    upload(
        any_store,
        bucket,
        {
            "1.jsonl": jsonl(100),
            "2.jsonl.gz": gzip.compress(jsonl(200, 100)),
            "3.parquet": parquet(table, row_group_size=30),
            "4.txt": b"text 400",
            "5.jsonl": b"",
        },
    )
    for shards in (1, 7):
        texts = read_all(input_spec(any_store, f"{bucket}/*"), any_store, shards)
        assert texts == [f"text {n}" for n in range(401)]


@pytest.mark.parametrize("any_store", ["versitygw"], indirect=True)
def test_more_objects_than_a_page_of_a_listing_are_one_input(any_store: ObjectStoreServer) -> None:
    bucket = any_store.make_bucket()
    names = [f"part-{number:04}.jsonl" for number in range(1100)]
    upload(any_store, bucket, {f"docs/{name}": jsonl(1) for name in names})
    for pattern in ("docs/*.jsonl", "docs/**"):
        spec = input_spec(any_store, f"{bucket}/{pattern}")
        assert found(spec, any_store) == [f"docs/{name}" for name in names]
    spec = input_spec(any_store, f"{bucket}/docs", sample={"fraction": 0.5})
    assert 450 < len(read_all(spec, any_store, shards=3)) < 650


def test_bad_rows_are_quarantined_with_object_and_line(any_store: ObjectStoreServer) -> None:
    bucket = any_store.make_bucket()
    upload(any_store, bucket, {"a.jsonl": b'{"text": "1"}\n\n{oops\n{"text": "2"}\n'})
    spec = input_spec(any_store, f"{bucket}/a.jsonl")
    origin = inputs.open_source(spec, any_store.mounts)
    (scanned,) = survey.survey(origin, origin.find(), spec).files
    (part,) = partition.assign([scanned], 1, None, [])
    _, bad, _ = (item.record for item in source.read_partition(part, spec, origin, bytes(1)))
    assert (bad.source.uri, bad.source.position) == (f"{bucket}/a.jsonl", 3)


@pytest.mark.parametrize("now", [b'{"text": "other"}\n', b'{"text": "y"}\n', b"", None])
def test_an_object_that_has_changed_is_refused_by_its_name(
    any_store: ObjectStoreServer, now: bytes | None
) -> None:
    bucket = any_store.make_bucket()
    upload(any_store, bucket, {"a.jsonl": b'{"text": "x"}\n'})
    spec = input_spec(any_store, f"{bucket}/a.jsonl")
    origin = inputs.open_source(spec, any_store.mounts)
    (file,) = origin.find()
    scanned = readers.scan(file, origin.open(file))
    if now is None:
        obstore.delete(origin._store, "a.jsonl")  # type: ignore[attr-defined]
    else:
        upload(any_store, bucket, {"a.jsonl": now})
    (part,) = partition.assign([scanned], 1, None, [])
    with pytest.raises(errors.ConfigurationError, match=r"a\.jsonl (has changed|is gone)"):
        list(source.read_partition(part, spec, origin, bytes(1)))


def test_wrong_credentials_name_their_field(any_store: ObjectStoreServer, tmp_path: Path) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "kubesynth", "AWS_SECRET_ACCESS_KEY": "wrong"}
    wrong |= {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1"}
    wrong |= {"AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmc="}
    if any_store.scheme == "gs":
        return  # this emulator lets everybody in
    for key, value in wrong.items():
        (tmp_path / key).write_text(value)
    mounts = Mounts(secrets={SECRET: tmp_path})
    for name in ("a.jsonl", "*.jsonl", ""):
        spec = input_spec(any_store, f"{any_store.make_bucket()}/{name}")
        with pytest.raises(errors.ConfigurationError, match=r"input\.storage\.credentials"):
            inputs.open_source(spec, mounts).find()


def test_a_missing_bucket_is_said(any_store: ObjectStoreServer) -> None:
    for name in ("a.jsonl", "*.jsonl"):
        spec = input_spec(any_store, f"{any_store.scheme}://missing-bucket/{name}")
        with pytest.raises(
            errors.ConfigurationError, match=r"input\.uri .*missing-bucket"
        ) as caught:
            found(spec, any_store)
        assert caught.value.reason is Reason.INPUT_UNREADABLE


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("docs/*.csv", "matches no file"),
        ("docs/z.jsonl", "there is no such file"),
        ("nowhere", "there is no such file"),
        ("docs/*.png", "none of the known endings"),
        ("docs/**.jsonl", "no usable pattern"),
    ],
)
def test_input_that_is_not_there_is_said(
    any_store: ObjectStoreServer, bucket: str, name: str, problem: str
) -> None:
    with pytest.raises(errors.ConfigurationError, match=rf"input\.uri.*{problem}"):
        found(input_spec(any_store, f"{bucket}/{name}"), any_store)
