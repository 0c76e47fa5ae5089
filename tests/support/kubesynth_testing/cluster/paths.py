"""Where the harness keeps what it builds and what it runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILES = Path(__file__).parent / "files"
"""Data files of the harness: Dockerfiles, the kind configuration, small Go programs."""

REPOSITORY = Path(__file__).parents[4]
"""The root of the checkout that this module lies in."""


def cache_root() -> Path:
    """Return the folder of everything the harness leaves behind, made if it is missing.

    `KUBESYNTH_CACHE` moves it; the default is `$XDG_CACHE_HOME/kubesynth` or `~/.cache/kubesynth`.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kubesynth"
    root = Path(os.environ.get("KUBESYNTH_CACHE") or default)
    root.mkdir(parents=True, exist_ok=True)
    return root


def cache_folder(*parts: str) -> Path:
    """Return a folder under the cache root, made if it is missing."""
    folder = cache_root().joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """Make an empty folder under the cache root and delete it at the end of the block.

    Its name is fixed, so that what a killed process left goes with the next use. The caller holds a
    lock: two processes must not use one at once.
    """
    folder = cache_root() / "scratch" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
