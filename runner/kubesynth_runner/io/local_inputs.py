"""Input files of this machine: volume claims, ConfigMaps, paths."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
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

# Where ext4 keeps what it has repaired: at the top of every disk, and for root alone.
_LOST_AND_FOUND = "lost+found"


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
            paths, is_folder = _match(self._root, self._pattern)
        except OSError as exc:
            raise _unreadable(spec.uri, exc) from exc
        except ValueError as exc:
            raise errors.ConfigurationError(
                Reason.INVALID_SPEC, f"input.uri: {spec.uri} is no usable pattern: {exc}"
            ) from exc
        self.left_out.clear()
        found = []
        for path in paths:
            uri = self._prefix + path.relative_to(self._root).as_posix()
            file_format = input_files.file_format(path.name, spec.format)
            if file_format is not None:
                found.append(_describe(uri, path, file_format))
            elif is_folder:
                self.left_out.count(_shown(path.name))
            else:
                raise input_files.unknown_format(_shown(uri))
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


def _match(root: Path, pattern: str) -> tuple[list[Path], bool]:
    """Return the files that are meant, sorted, and whether they are all those of a folder."""
    whole = root / pattern
    mode = _mode(whole)
    if stat.S_ISREG(mode):
        return [whole], False
    # What the user has spelled out is meant, whatever its name.
    if stat.S_ISDIR(mode):
        return sorted(set(_walk(whole, patterns.below("**")))), True
    folder = root / patterns.split(pattern)[0]
    names = patterns.below(pattern)
    found = set(_walk(folder, names)) if stat.S_ISDIR(_mode(folder)) else ()
    return sorted(found), False


def _walk(folder: Path, names: Sequence[patterns.Name]) -> Iterator[Path]:
    """Yield the files below a folder whose path is matched part by part, some of them twice.

    Unlike pathlib's, it passes over no folder that cannot be read. ** follows no links to folders,
    which may lead round and round.

    Raises:
        OSError: a folder cannot be read.
    """
    name, rest = names[0], names[1:]
    if name is None:
        yield from _walk(folder, rest)
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # somebody has removed it meanwhile
    for entry in entries:
        if patterns.is_hidden(entry.name) or entry.name == _LOST_AND_FOUND:
            continue
        if name is None:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, names)
        elif name(entry.name) is not None:
            path = folder / entry.name
            mode = _mode(path)
            if rest and stat.S_ISDIR(mode):
                yield from _walk(path, rest)
            elif not rest and stat.S_ISREG(mode):
                yield path


def _mode(path: Path) -> int:
    """Return the mode of a file or of what a link leads to; 0 if there is nothing.

    Raises:
        OSError: it cannot be looked at.
    """
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            return 0
        raise


def _describe(uri: str, path: Path, file_format: FileFormat) -> InputFile:
    if _shown(uri) != uri:
        raise errors.ConfigurationError(
            Reason.INPUT_UNREADABLE,
            f"input file {_shown(uri)}: the name is not UTF-8, so no row could say where it comes "
            "from; rename it",
        )
    try:
        return InputFile(uri, file_format, path.stat().st_size, _version(uri, path))
    except OSError as exc:
        raise _unreadable(uri, exc) from exc


def _version(uri: str, path: Path) -> str:
    """Return the content's hash for a ConfigMap, whose files are as old as each pod's mount."""
    if uri.startswith("configmap://"):
        return xxhash.xxh3_64_hexdigest(path.read_bytes())
    found = path.stat()
    return f"{found.st_size}-{found.st_mtime_ns}"


def _unreadable(uri: str, exc: OSError) -> errors.ConfigurationError:
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE, f"input {uri}: {exc.strerror}: {_shown(str(exc.filename))}"
    )


def _shown(name: str) -> str:
    r"""Return a name with \x and two digits for each byte that is not UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
