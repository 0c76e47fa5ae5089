"""Finding the files of an input: patterns, formats, versions."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import xxhash

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner import errors
from kubesynth_runner.io.locations import Mounts, local_path
from kubesynth_runner.io.plan_file import FileFormat, InputFile

_SUFFIXES: dict[str, FileFormat] = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".jsonl.gz": "JSONL",
    ".ndjson.gz": "JSONL",
    ".parquet": "Parquet",
    ".txt": "Text",
    ".md": "Text",
}


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of the input and where it lies on this machine."""

    file: InputFile
    path: Path


def find(spec: InputSpec, mounts: Mounts) -> list[FoundFile]:
    """Return the files of an input, sorted by URI.

    Raises:
        ConfigurationError: nothing matches, a file cannot be read, or its format is not known.
    """
    prefix, root, pattern = _split(spec.uri, mounts)
    try:
        paths = _match(root, pattern)
    except OSError as exc:
        raise _unreadable(spec.uri, exc) from exc
    except ValueError as exc:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC, f"input.uri: {spec.uri} is no usable pattern: {exc}"
        ) from exc
    is_folder = (root / pattern).is_dir()
    found = []
    for path in paths:
        uri = prefix + path.relative_to(root).as_posix()
        file_format = _format(path.name, spec)
        if file_format is None:
            if is_folder:
                continue
            raise errors.ConfigurationError(
                Reason.INPUT_UNREADABLE,
                f"input.uri: {uri} has none of the known endings ({', '.join(_SUFFIXES)}); "
                "set input.format",
            )
        found.append(FoundFile(_describe(uri, path, file_format), path))
    if not found:
        raise errors.ConfigurationError(
            Reason.INPUT_UNREADABLE, f"input.uri: {spec.uri} matches no file"
        )
    return found


def open_checked(file: InputFile, mounts: Mounts) -> Path:
    """Return where a planned file lies, having made sure that it is still the same.

    Raises:
        ConfigurationError: it is gone, or it has changed since plan saw it.
    """
    path = local_path(file.uri, mounts)
    try:
        version = _version(file.uri, path)
    except OSError as exc:
        raise _unreadable(file.uri, exc) from exc
    if version != file.version:
        raise errors.ConfigurationError(
            Reason.INPUT_CHANGED,
            f"input file {file.uri} has changed since the job was planned ({file.version} then, "
            f"{version} now); a run needs the same input to its end: restore it, or "
            "start a new job",
        )
    return path


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
    spelled_out = whole if whole.is_dir() else root / _without_wildcards(pattern)
    if pattern.endswith("**"):  # every file below, not every folder
        pattern += "/*"
    candidates = whole.rglob("*") if whole.is_dir() else root.glob(pattern)
    return sorted(
        path
        for path in candidates
        if path.is_file() and not _is_hidden(path.relative_to(spelled_out))
    )


def _without_wildcards(pattern: str) -> Path:
    """Return the folders that a pattern names before its first wildcard."""
    parts = itertools.takewhile(lambda part: not set("*?[") & set(part), Path(pattern).parts)
    return Path(*parts)


def _is_hidden(relative: Path) -> bool:
    # Also the ..data folders of ConfigMap mounts, and Hadoop's _SUCCESS and _temporary.
    return any(part.startswith((".", "_")) for part in relative.parts)


def _format(name: str, spec: InputSpec) -> FileFormat | None:
    if spec.format != "Auto":
        return spec.format
    lower = name.lower()
    return next((form for suffix, form in _SUFFIXES.items() if lower.endswith(suffix)), None)


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
