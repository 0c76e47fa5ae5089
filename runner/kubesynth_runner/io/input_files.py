"""What files of the input have in common, wherever they are: formats, versions, refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from kubesynth_api import input_formats
from kubesynth_api.conditions import Reason
from kubesynth_runner import errors
from kubesynth_runner.io import patterns
from kubesynth_runner.io.plan_file import FileFormat, InputFile

# How many endings of files that are not read are told, and how much of each.
ENDINGS_TOLD = 6
ENDING_CHARACTERS = 20


def file_format(name: str, wanted: Literal["Auto"] | FileFormat) -> FileFormat | None:
    """Return the format of a file: what `input.format` says, or what its name says, if anything."""
    if wanted != "Auto":
        return wanted
    return input_formats.of_name(name)


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
    said = input_formats.advice(input_formats.ending(uri))
    if said is None:
        known = ", ".join(input_formats.SUFFIXES)
        problem = f"{uri} has none of the known endings ({known}); set input.format"
    else:
        problem = f"{uri}: {said}"
    return errors.ConfigurationError(Reason.INPUT_UNREADABLE, f"input.uri: {problem}")


class LeftOut(Counter[str]):
    """How many files of a folder are not read, by their ending."""

    def count(self, name: str) -> None:
        """Count a file."""
        self[input_formats.ending(name)] += 1


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """Return the numbers by ending, the commonest first, with what to do about the first.

    Of bounded length: what is behind a dot is not always an ending.
    """
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    told = ordered[:ENDINGS_TOLD]
    counts = ", ".join(
        f"{count:,} {ending[:ENDING_CHARACTERS] or 'without an ending'}" for ending, count in told
    )
    rest = sum(count for _, count in ordered[ENDINGS_TOLD:])
    if rest:
        counts += f", {rest:,} with other endings"
    said = next(filter(None, (input_formats.advice(ending) for ending, _ in ordered)), None)
    return f"{counts} ({said})" if said else counts


def no_match(uri: str, left_out: Mapping[str, int]) -> errors.ConfigurationError:
    """Return the error that there is no input: nothing there, or nothing that is read."""
    if left_out:
        known = ", ".join(input_formats.SUFFIXES)
        problem = (
            f"{uri} holds no file with a known ending ({known}), only "
            f"{describe_left_out(left_out)}; if all are of one format set input.format"
        )
    elif patterns.is_pattern(uri):
        problem = f"{uri} matches no file"
    else:
        problem = f"{uri}: there is no such file, and no folder of this name with files in it"
    return errors.ConfigurationError(Reason.INPUT_UNREADABLE, f"input.uri: {problem}")
