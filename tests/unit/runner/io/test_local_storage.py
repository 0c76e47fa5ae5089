from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import local_storage
from kubesynth_runner.io.local_storage import LocalStorage
from kubesynth_runner.io.storage import StoredFile


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "not/there/yet", "pvc://claim/out")


def test_create_happens_once(storage: LocalStorage) -> None:
    assert storage.create("a/b", b"first")
    assert not storage.create("a/b", b"second")
    assert storage.read("a/b") == b"first"
    assert os.listdir(storage.root / "a") == ["b"]


def test_put_replaces(storage: LocalStorage) -> None:
    storage.put("a/b", b"first")
    storage.put("a/b", b"second")
    assert storage.read("a/b") == b"second"
    assert os.listdir(storage.root / "a") == ["b"]


def test_reading_what_is_not_there(storage: LocalStorage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("a")
    with pytest.raises(FileNotFoundError):
        storage.read_range("a", 0, 1)
    assert not storage.exists("a")
    assert storage.list_files("") == []


def test_range_ends_with_the_file(storage: LocalStorage) -> None:
    storage.put("a", b"0123456789")
    assert storage.read_range("a", 2, 3) == b"234"
    assert storage.read_range("a", 8, 100) == b"89"
    assert storage.read_range("a", 100, 1) == b""


def test_listing_is_sorted_and_leaves_unfinished_files_out(storage: LocalStorage) -> None:
    for path in ("b/2", "b/1", "a", "b/c/3"):
        storage.put(path, b"xx")
    (storage.root / "b/.tmp-1").write_bytes(b"")
    assert storage.list_files("b") == [
        StoredFile("b/1", 2),
        StoredFile("b/2", 2),
        StoredFile("b/c/3", 2),
    ]


def test_links_are_neither_walked_nor_followed_by_delete(
    storage: LocalStorage, tmp_path: Path
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("keep")
    storage.put("data/x", b"")
    (storage.root / "data/link").symlink_to(tmp_path / "precious")
    assert [file.path for file in storage.list_files("data")] == ["data/link", "data/x"]
    storage.delete("data/link")
    storage.delete("data")
    assert (tmp_path / "precious/file").read_text() == "keep"
    assert not storage.exists("data")


def test_publish_moves_and_can_be_repeated(storage: LocalStorage) -> None:
    staged = storage.open_staged("staging/x")
    staged.write(b"rows")
    staged.finish()
    storage.publish("staging/x", "data/x")
    storage.publish("staging/x", "data/x")
    assert storage.read("data/x") == b"rows"
    assert not storage.exists("staging/x")


def test_publishing_what_never_was_is_an_error(storage: LocalStorage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.publish("staging/x", "data/x")


def test_delete_is_harmless_where_there_is_nothing(storage: LocalStorage) -> None:
    storage.delete("nothing")
    storage.put("folder/file", b"")
    storage.delete("folder/file")
    storage.delete("folder")
    storage.delete("folder")
    assert not storage.exists("folder")


def test_log_appends_and_tells_offsets(storage: LocalStorage) -> None:
    log = storage.append_log("journal/1")
    assert [log.append(b"abc"), log.append(b"de"), log.append(b"")] == [0, 3, 5]
    log.sync()
    log.close()
    log.close()
    assert storage.read("journal/1") == b"abcde"


def test_log_is_never_opened_twice(storage: LocalStorage) -> None:
    storage.append_log("journal/1").close()
    with pytest.raises(errors.RunnerError):
        storage.append_log("journal/1")


def test_log_survives_writes_that_take_only_part(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    log = storage.append_log("journal/1")
    log.append(b"0123456789")
    log.close()
    assert storage.read("journal/1") == b"0123456789"


def test_full_disk_leaves_no_half_of_a_frame(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = storage.append_log("journal/1")
    log.append(b"whole")
    write = os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[:5])

    with monkeypatch.context() as full:
        full.setattr(os, "write", nearly_full)
        with pytest.raises(errors.RetryLaterError, match="pvc://claim/out: No space left"):
            log.append(b"0123456789")
    assert storage.read("journal/1") == b"whole"
    assert log.append(b"next") == 5
    log.close()
    assert storage.read("journal/1") == b"wholenext"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EACCES, errors.ConfigurationError),
        (errno.EROFS, errors.ConfigurationError),
        (errno.ENOTDIR, errors.ConfigurationError),
        (errno.ENOSPC, errors.RetryLaterError),
        (errno.EDQUOT, errors.RetryLaterError),
        (errno.EIO, errors.RetryLaterError),
        (errno.ESTALE, errors.RetryLaterError),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda storage: storage.create("a", b""), id="create"),
        pytest.param(lambda storage: storage.put("a", b""), id="put"),
        pytest.param(lambda storage: storage.append_log("a"), id="append_log"),
    ],
)
def test_errors_of_the_system_say_what_to_do_about_them(
    storage: LocalStorage,
    monkeypatch: pytest.MonkeyPatch,
    use: Callable[[LocalStorage], object],
    code: int,
    kind: type[errors.RunnerError],
) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise OSError(code, os.strerror(code), "/mnt/out/a")

    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(kind, match=r"pvc://claim/out.*/mnt/out/a") as caught:
        use(storage)
    assert caught.value.reason is Reason.OUTPUT_UNWRITABLE


def test_file_system_without_links_is_named_as_the_reason(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(errors.ConfigurationError, match="no hard links"):
        storage.create("a", b"")
    assert os.listdir(storage.root) == []


@pytest.mark.parametrize("where", ["", "below"])
def test_output_that_is_a_file_is_a_configuration_error(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    storage = LocalStorage(tmp_path / "file" / where, "file:///out")
    assert not storage.exists("run.json")
    assert storage.list_files("data") == []
    with pytest.raises(FileNotFoundError):
        storage.read("run.json")
    with pytest.raises(errors.ConfigurationError, match="file:///out"):
        storage.create("run.json", b"")


def test_folders_and_files_are_made_durable_by_name(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(local_storage, "_sync_folder", synced.append)
    storage.open_staged("staging/x").abandon()
    root = storage.root
    assert synced == [root.parents[2], root.parents[1], root.parents[0], root, root / "staging"]
