"""What files of the input have in common, wherever they are: formats, versions, refusals."""

from __future__ import annotations

from typing import Literal

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
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


def file_format(name: str, wanted: Literal["Auto"] | FileFormat) -> FileFormat | None:
    """Return the format of a file: what `input.format` says, or what its name says, if anything."""
    if wanted != "Auto":
        return wanted
    lower = name.lower()
    return next((form for suffix, form in _SUFFIXES.items() if lower.endswith(suffix)), None)


def is_gzip(file: InputFile) -> bool:
    """Return whether a file is compressed, by its name."""
    return file.uri.lower().endswith(".gz")


def plain_etag(tag: str) -> str:
    """Return an ETag without quotes and without the mark of a weak one."""
    return tag.removeprefix("W/").strip('"')


def check_version(file: InputFile, version: str) -> None:
    """Refuse a file that is not the one that plan saw.

    Raises:
        ConfigurationError: InputChanged.
    """
    if version != file.version:
        raise errors.ConfigurationError(
            Reason.INPUT_CHANGED,
            f"input file {file.uri} has changed since the job was planned ({file.version} then, "
            f"{version} now); a run needs the same input to its end: restore it, or "
            "start a new job",
        )


def gone(file: InputFile) -> errors.ConfigurationError:
    """Return the error that a planned file is not there any more."""
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE,
        f"input file {file.uri} is gone since the job was planned; restore it, or start a new job",
    )


def unknown_format(uri: str) -> errors.ConfigurationError:
    """Return the error that nobody can tell what is in a file."""
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE,
        f"input.uri: {uri} has none of the known endings ({', '.join(_SUFFIXES)}); "
        "set input.format",
    )


def no_match(uri: str) -> errors.ConfigurationError:
    """Return the error that there is no input."""
    return errors.ConfigurationError(
        Reason.INPUT_UNREADABLE, f"input.uri: {uri} matches no file of a known format"
    )
