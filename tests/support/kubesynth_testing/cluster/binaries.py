"""Builds the programs of the cluster from Go modules, once for each recipe.

`ensure` may be called by several processes at once. A program appears under its name only when it
is whole, and a caller waits only for the programs that it asked for.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from kubesynth_testing.cluster import locks, paths, recipe
from kubesynth_testing.cluster.progress import say, step
from kubesynth_testing.cluster.shell import Shell

_BUILD_TIMEOUT_SECONDS = 3600.0
_KEEP_OTHER_BUILDS_SECONDS = 14 * 24 * 3600


class MissingToolchainError(RuntimeError):
    """The programs are not built yet and there is no Go compiler to build them."""


def folder() -> Path:
    """Return the folder of the programs that the present recipe builds, made if it is missing."""
    return paths.cache_folder("bin", recipe.binaries_key())


def ensure(names: Iterable[str] = tuple(recipe.PACKAGES)) -> Path:
    """Build what is missing of the named programs and return the folder that holds them all.

    Raises:
        KeyError: A name is not one of `recipe.PACKAGES`.
        MissingToolchainError: Something must be built and there is no `go`.
        CommandError: The build failed.
    """
    wanted = sorted(set(names), key=list(recipe.PACKAGES).index)
    target = folder()
    for batch in _batches(wanted):
        while missing := _missing(target, batch):
            done = functools.partial(_all_built, target, batch)
            with locks.file_lock(paths.cache_root() / "binaries.lock", until=done) as held:
                if held and (missing := _missing(target, batch)):
                    _build(missing, target)
    return target


def _batches(names: list[str]) -> list[list[str]]:
    """Split names into the sets that one `go build` makes, the most wanted first."""
    first = [name for name in names if name in recipe.API_SERVER]
    alone = [[name] for name in names if name in recipe.BUILT_ALONE]
    rest = [name for name in names if name not in (*recipe.API_SERVER, *recipe.BUILT_ALONE)]
    return [batch for batch in (first, rest, *alone) if batch]


def _missing(target: Path, names: list[str]) -> list[str]:
    return [name for name in names if not (target / name).exists()]


def _all_built(target: Path, names: list[str]) -> bool:
    return not _missing(target, names)


def _build(names: list[str], target: Path) -> None:
    """Build programs into a folder of their own and move each to its place when all are done."""
    require_toolchain(", ".join(names))
    source = prepare_module()
    packages = [recipe.PACKAGES[name] for name in names]
    with (
        step(f"build {', '.join(names)} (first build: minutes)"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch,
    ):
        go_in(source).run(
            "go",
            "build",
            *recipe.build_flags(),
            "-o",
            scratch + "/",
            *packages,
            timeout_seconds=_BUILD_TIMEOUT_SECONDS,
        )
        for name, package in zip(names, packages, strict=True):
            os.replace(Path(scratch, _output_name(package)), target / name)
    _forget_old_builds(target)


def require_toolchain(what: str) -> None:
    """Raise where there is no Go compiler to build something with.

    Raises:
        MissingToolchainError: There is none.
    """
    if shutil.which("go") is None:
        raise MissingToolchainError(
            f"{what}: not built yet, and building needs Go (https://go.dev/dl) in PATH"
        )


def prepare_module() -> Path:
    """Copy the Go module to the cache, let `go list` complete its requirements; return the copy.

    All packages are listed, whichever are wanted: the versions that Go selects depend on the whole
    set, and two builds that select different ones share nothing.

    The copy gets its go.sum with the first listing, so go.sum tells nothing about completeness: a
    marker is written last.
    """
    source = paths.cache_folder("build", recipe.binaries_key())
    marker = source / ".resolved"
    if not marker.exists():
        with step("resolve the Go modules"):
            shutil.copytree(recipe.GO_SOURCE, source, dirs_exist_ok=True)
            for batch in _batches(list(recipe.PACKAGES)):
                packages = [recipe.PACKAGES[name] for name in batch]
                go_in(source).run("go", "list", "-mod=mod", "-deps", *packages)
        marker.touch()
    return source


def go_in(source: Path) -> Shell:
    """Return a shell for the Go compiler in the folder of a module."""
    env = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    # Each compiler lives for seconds: without garbage collection the build costs a third less. The
    # limit is for the few that would take all the memory.
    env |= {"GOGC": "off", "GOMEMLIMIT": "1GiB"}
    return Shell(env=env, cwd=source)


def _output_name(package: str) -> str:
    """Return the file name that `go build -o FOLDER/` gives to a package's program."""
    parts = package.split("/")
    return parts[-2] if parts[-1].startswith("v") and parts[-1][1:].isdigit() else parts[-1]


def _forget_old_builds(current: Path) -> None:
    """Remove builds of other recipes that nobody has added to for two weeks."""
    for other in current.parent.iterdir():
        age_seconds = time.time() - other.stat().st_mtime
        if other != current and age_seconds > _KEEP_OTHER_BUILDS_SECONDS:
            say(f"remove the old build {other.name}")
            shutil.rmtree(other, ignore_errors=True)
