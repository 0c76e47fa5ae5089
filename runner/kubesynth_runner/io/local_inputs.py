"""Input files of this machine: volume claims, ConfigMaps, paths."""

from __future__ import annotations

from pathlib import Path

import xxhash

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io import input_files, patterns
from kubesynth_runner.io.contents import LocalContent
from kubesynth_runner.io.locations import local_path
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.plan_file import FileFormat, InputFile


class LocalInput:
    """Files below a folder."""

    def __init__(self, spec: InputSpec, mounts: Mounts) -> None:
        """Look at nothing yet.

        Raises:
            ConfigurationError: the URI's volume or ConfigMap is not there.
        """
        self._spec = spec
        self._mounts = mounts
        self.left_out = input_files.LeftOut()
        self._prefix, self._root, self._pattern = _split(spec.uri, mounts)

    def find(self) -> list[InputFile]:
        """Return the files that the URI means, sorted by URI."""
        spec = self._spec
        try:
            paths = _match(self._root, self._pattern)
        except OSError as exc:
            raise _unreadable(spec.uri, exc) from exc
        except ValueError as exc:
            raise errors.ConfigurationError(
                Reason.INVALID_SPEC, f"input.uri: {spec.uri} is no usable pattern: {exc}"
            ) from exc
        is_folder = (self._root / self._pattern).is_dir()
        self.left_out.clear()
        found = []
        for path in paths:
            uri = self._prefix + path.relative_to(self._root).as_posix()
            file_format = input_files.file_format(path.name, spec.format)
            if file_format is not None:
                found.append(_describe(uri, path, file_format))
            elif is_folder:
                self.left_out.count(path.name)
            else:
                raise input_files.unknown_format(uri)
        return found

    def open(self, file: InputFile) -> LocalContent:
        """Return a planned file, having made sure that it is still the same."""
        path = local_path(file.uri, self._mounts)
        try:
            version = _version(file.uri, path)
        except OSError as exc:
            raise _unreadable(file.uri, exc) from exc
        input_files.check_version(file, version)
        return LocalContent(path)


def _split(uri: str, mounts: Mounts) -> tuple[str, Path, str]:
    """Divide a URI into a prefix for names, the folder it stands for, and a pattern below it."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if uri.startswith("/"):
            return "/", Path("/"), uri.lstrip("/")
        return "", mounts.base_folder, uri
    if scheme == "file" and rest.startswith("/"):
        return "file:///", Path("/"), rest.lstrip("/")
    if scheme == "file":
        return "file://", mounts.base_folder, rest
    name, _, pattern = rest.partition("/")
    local_path(uri, mounts)  # refuses a path that leads out of the volume
    return f"{scheme}://{name}/", local_path(f"{scheme}://{name}/", mounts), pattern


def _match(root: Path, pattern: str) -> list[Path]:
    whole = root / pattern
    if whole.is_file():
        return [whole]
    # What the user has spelled out is meant, whatever its name.
    spelled_out = whole if whole.is_dir() else root / patterns.split(pattern)[0]
    if pattern.endswith("**"):  # every file below, not every folder
        pattern += "/*"
    candidates = whole.rglob("*") if whole.is_dir() else root.glob(pattern)
    return sorted(
        path
        for path in candidates
        if not patterns.is_hidden(path.relative_to(spelled_out).as_posix()) and path.is_file()
    )


def _describe(uri: str, path: Path, file_format: FileFormat) -> InputFile:
    try:
        return InputFile(uri, file_format, path.stat().st_size, _version(uri, path))
    except OSError as exc:
        raise _unreadable(uri, exc) from exc


def _version(uri: str, path: Path) -> str:
    """Return the content's hash for a ConfigMap, whose files are as old as each pod's mount."""
    if uri.startswith("configmap://"):
        return xxhash.xxh3_64_hexdigest(path.read_bytes())
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _unreadable(uri: str, exc: OSError) -> errors.ConfigurationError:
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE, f"input {uri}: {exc.strerror}: {exc.filename}"
    )
