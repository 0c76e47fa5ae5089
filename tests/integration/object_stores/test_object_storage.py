"""What every storage promises, on the file system and on real object stores."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.io import object_uploads
from kubesynth_runner.io.journal import CallFrame, Journal, call_key
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.locations import open_storage
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.storage import Storage, StoredFile
from kubesynth_testing.object_stores import SECRET, STORES, ObjectStoreServer, output_spec, serve


@pytest.fixture(params=["local", *STORES])
def server(
    request: pytest.FixtureRequest, running: Callable[[str], ObjectStoreServer]
) -> ObjectStoreServer | None:
    return None if request.param == "local" else running(request.param)


@pytest.fixture
def storage(server: ObjectStoreServer | None, tmp_path: Path) -> Storage:
    if server is None:
        return LocalStorage(tmp_path)
    return open_storage(output_spec(server, "some/prefix"), server.mounts)


def test_what_is_not_there_is_not_there(storage: Storage) -> None:
    assert not storage.exists("a")
    assert storage.list_files("") == []
    storage.delete("a")
    with pytest.raises(FileNotFoundError):
        storage.read("a")
    with pytest.raises(FileNotFoundError):
        storage.read_range("a", 0, 1)


def test_one_of_many_creates_a_file(storage: Storage) -> None:
    start = threading.Barrier(8)

    def create(writer: int) -> bool:
        start.wait()
        return storage.create("claims/1", b"writer %d" % writer)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert sorted(created) == [False] * 7 + [True]
    assert storage.read("claims/1") == b"writer %d" % created.index(True)


def test_put_replaces(storage: Storage) -> None:
    storage.put("a", b"first")
    storage.put("a", b"second")
    assert storage.read("a") == b"second"


def test_ranges_end_where_the_file_ends(storage: Storage) -> None:
    storage.put("a/b", b"0123456789")
    assert storage.read_range("a/b", 2, 3) == b"234"
    assert storage.read_range("a/b", 8, 10) == b"89"
    assert storage.read_range("a/b", 10, 5) == b""
    assert storage.read_range("a/b", 50, 5) == b""


def test_folders_list_what_is_below_them_and_nothing_else(storage: Storage) -> None:
    for path in ("b/2", "b/1/x", "bb/3", "a"):
        storage.put(path, b"12")
    assert storage.list_files("b") == [StoredFile("b/1/x", 2), StoredFile("b/2", 2)]
    storage.delete("b")
    assert [file.path for file in storage.list_files("")] == ["a", "bb/3"]


@pytest.mark.parametrize("megabytes", [0, 1, 40])
def test_a_staged_file_appears_whole(storage: Storage, megabytes: int) -> None:
    staged = storage.open_staged("staging/part")
    for number in range(megabytes):
        staged.write(bytes([number]) * (1 << 20))
    staged.finish()
    storage.publish("staging/part", "data/part")
    assert storage.read("data/part") == b"".join(
        bytes([number]) * (1 << 20) for number in range(megabytes)
    )
    assert not storage.exists("staging/part")


def test_an_abandoned_file_does_not_appear_under_its_final_name(storage: Storage) -> None:
    staged = storage.open_staged("staging/part")
    for _ in range(20):
        staged.write(b"x" * (1 << 20))
    staged.abandon()
    staged.abandon()
    assert storage.list_files("data") == []


def test_publishing_can_be_repeated_and_misses_what_was_never_there(storage: Storage) -> None:
    storage.put("staging/a", b"1")
    storage.publish("staging/a", "data/a")
    storage.publish("staging/a", "data/a")
    storage.put("staging/a", b"1")  # as if the delete after a copy had been lost
    storage.publish("staging/a", "data/a")
    assert storage.read("data/a") == b"1"
    with pytest.raises(FileNotFoundError):
        storage.publish("staging/b", "data/b")


def test_many_publish_the_same_file(storage: Storage) -> None:
    storage.put("staging/a", b"1")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: storage.publish("staging/a", "data/a"), range(8)))
    assert [file.path for file in storage.list_files("")] == ["data/a"]


def test_two_delete_the_same_file(storage: Storage) -> None:
    paths = [f"staging/{number:02d}" for number in range(30)]
    for path in paths:
        storage.put(path, b"1")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(storage.delete, sorted(paths * 2)))
    assert storage.list_files("") == []


def frame(number: int, size: int = 10) -> CallFrame:
    key = call_key(f"r{number}", 0, 0)
    return CallFrame(key, b"h", number, "x" * size, "stop", 1, 1, "m", 1)


def test_a_journal_is_read_back_by_the_next_writer(storage: Storage) -> None:
    journal = Journal(storage, "run", 0, 1)
    for number in range(10):
        journal.append(frame(number))
        if number % 4 == 3:
            journal.sync()
    journal.close()
    later = Journal(storage, "run", 0, 2)
    later.load(bytearray(2))
    assert [later.find(frame(number).key, b"h") for number in range(10)] == [
        frame(number) for number in range(10)
    ]
    later.delete(later.forget(list(range(10))))
    assert storage.list_files("") == []


def test_a_torn_end_hides_only_itself(storage: Storage) -> None:
    journal = Journal(storage, "run", 0, 1)
    journal.append(frame(0))
    journal.append(frame(1))
    journal.close()
    (file,) = storage.list_files("")
    storage.put(file.path, storage.read(file.path)[:-3])
    later = Journal(storage, "run", 0, 2)
    later.load(bytearray(1))
    assert later.find(frame(0).key, b"h") == frame(0)
    assert later.find(frame(1).key, b"h") is None


def test_a_dead_writer_loses_one_unflushed_segment_at_most(s3: ObjectStoreServer) -> None:
    storage = open_storage(output_spec(s3, "out"), s3.mounts)
    journal = Journal(storage, "run", 0, 1)
    journal.append(frame(0))
    journal.sync()
    journal.append(frame(1))  # its writer dies here
    later = Journal(storage, "run", 0, 2)
    later.load(bytearray(1))
    assert later.find(frame(0).key, b"h") == frame(0)
    assert later.find(frame(1).key, b"h") is None


def test_a_log_is_uploaded_when_much_has_gathered(s3: ObjectStoreServer) -> None:
    storage = open_storage(output_spec(s3, "out"), s3.mounts)
    journal = Journal(storage, "run", 0, 1)
    for number in range(4):
        journal.append(frame(number, object_uploads.LOG_FLUSH_BYTES))
    journal.append(frame(4))
    journal.close()
    assert len(storage.list_files("")) == 5


def test_wrong_credentials_name_their_field(any_store: ObjectStoreServer, tmp_path: Path) -> None:
    if any_store.scheme == "gs":
        return  # this emulator lets everybody in
    wrong = {"AWS_ACCESS_KEY_ID": "kubesynth", "AWS_SECRET_ACCESS_KEY": "wrong"}
    wrong |= {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1"}
    wrong |= {"AZURE_STORAGE_ACCOUNT_KEY": "d3Jvbmc="}
    for key, value in wrong.items():
        (tmp_path / key).write_text(value)
    storage = open_storage(output_spec(any_store), Mounts(secrets={SECRET: tmp_path}))
    with pytest.raises(errors.ConfigurationError, match=r"output\.storage\.credentials"):
        storage.exists("run.json")


def test_a_secret_without_the_store_s_keys_is_named(s3: ObjectStoreServer, tmp_path: Path) -> None:
    (tmp_path / "GOOGLE_SERVICE_ACCOUNT").write_text("{}")
    with pytest.raises(errors.ConfigurationError, match=f"{SECRET!r} has no key .* AWS_"):
        open_storage(output_spec(s3), Mounts(secrets={SECRET: tmp_path}))


def test_a_missing_bucket_is_said(any_store: ObjectStoreServer) -> None:
    missing = output_spec(any_store).model_copy(
        update={"uri": f"{any_store.scheme}://missing-bucket/out"}
    )
    with pytest.raises(errors.ConfigurationError, match=r"output\.uri .*missing-bucket"):
        open_storage(missing, any_store.mounts).list_files("data")


def test_an_outage_is_worth_trying_again() -> None:
    with serve("seaweedfs") as server:
        storage = open_storage(output_spec(server), server.mounts)
    with pytest.raises(errors.RetryLaterError):
        storage.exists("run.json")
