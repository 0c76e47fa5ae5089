"""Patterns of input URIs, matched against names: * and ? and [...] within a folder, ** across them.

What a local folder would give, a listing of an object store gives too. Pure.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence

from kubesynth_api.conditions import Reason
from kubesynth_runner import errors

_WILDCARDS = frozenset("*?[")
# What matches one part of a path; None for **, any number of folders.
Name = Callable[[str], re.Match[str] | None] | None


def is_pattern(path: str) -> bool:
    """Return whether a path names many files by *, ? or [...]."""
    return not _WILDCARDS.isdisjoint(path)


def has_wildcard(path: str) -> bool:
    """Return whether a path can be no file's name; brackets occur in names."""
    return "*" in path or "?" in path


def is_hidden(relative: str) -> bool:
    """Return whether a path below what the user has spelled out is not meant for readers.

    That holds for names that start with a dot or an underscore: the ..data folders of ConfigMap
    mounts, Hadoop's _SUCCESS and _temporary.
    """
    return any(part.startswith((".", "_")) for part in relative.split("/"))


def split(pattern: str) -> tuple[str, str, str]:
    """Divide a pattern into the folder before its first wildcard, a slash, and the rest."""
    parts = pattern.split("/")
    count = next((i for i, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    folder, rest = "/".join(parts[:count]), "/".join(parts[count:])
    return folder, "/" if folder else "", rest


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a path is meant by `pattern`.

    Raises:
        ConfigurationError: ** is only a part of a name.
    """
    folder, slash, _ = split(pattern)
    prefix = folder + slash
    names = below(pattern)

    def matches(path: str) -> bool:
        if not path.startswith(prefix):
            return False
        relative = path[len(prefix) :]
        return not is_hidden(relative) and _match(names, relative.split("/"))

    return matches


def below(pattern: str) -> list[Name]:
    """Return what matches the parts of a path below the folder before the first wildcard.

    Raises:
        ConfigurationError: ** is only a part of a name.
    """
    parts = split(pattern)[2].split("/")
    if parts[-1] == "**":  # every file below, not every folder
        parts.append("*")
    names: list[Name] = []
    for part in parts:
        if "**" in part and part != "**":
            raise errors.ConfigurationError(
                Reason.INVALID_SPEC,
                f"input.uri: {pattern} is no usable pattern: ** stands for whole folders",
            )
        names.append(None if part == "**" else re.compile(fnmatch.translate(part)).match)
    return names


def _match(names: Sequence[Name], parts: Sequence[str]) -> bool:
    if not names:
        return not parts
    first, rest = names[0], names[1:]
    if first is not None:
        return bool(parts) and first(parts[0]) is not None and _match(rest, parts[1:])
    # As many folders as it takes; the file itself is left for what follows.
    return any(_match(rest, parts[count:]) for count in range(len(parts)))
