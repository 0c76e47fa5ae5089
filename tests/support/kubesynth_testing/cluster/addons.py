"""Builds controllers that users add to a cluster, for tests beside a bare API server.

They are compiled within the module of the cluster's programs, with the versions of Kubernetes that
those have: most of it is compiled already, so that it costs seconds. Their own go.mod asks for
older versions, all of which would be compiled for them alone.

LeaderWorkerSet 0.8.0 was written for controller-runtime 0.22, whose successors take the object of a
webhook in another place. Two calls in its source are changed for that, and nothing else.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import tempfile
from pathlib import Path

from kubesynth_testing.cluster import binaries, locks, paths, recipe
from kubesynth_testing.cluster.progress import step

_MODULE, _VERSION = "sigs.k8s.io/lws", "v0.8.0"
_PARTS = ("api", "client-go", "cmd", "pkg", "go.mod", "go.sum")
_MANIFESTS = ("config/crd/bases", "config/webhook")
_OLD_CALL = re.compile(
    r"NewWebhookManagedBy\(mgr\)\.\s*For\((&\S+\{\})\)\.\s*"
    r"WithDefaulter\((.+)\)\.\s*WithValidator\((.+)\)"
)
_NEW_CALL = r"NewWebhookManagedBy(mgr, \1).WithCustomDefaulter(\2).WithCustomValidator(\3)"
_CALLS = 2
_BUILD_TIMEOUT_SECONDS = 1800.0

PROGRAM = "manager"


def ensure_leader_worker_set() -> Path:
    """Build the LeaderWorkerSet controller if it is missing.

    Returns the folder with `PROGRAM` and with the module's manifests, in folders called as there.

    Raises:
        MissingToolchainError: It must be built and there is no `go`.
        CommandError: The build failed.
    """
    facts = (recipe.binaries_key(), _VERSION, _OLD_CALL.pattern, _NEW_CALL)
    key = recipe.content_key(paths.FILES, (), *facts)
    target = paths.cache_folder("addons") / f"lws-{_VERSION}-{key}"
    with locks.file_lock(paths.cache_root() / "addons.lock", until=target.exists):
        if not target.exists():
            _build(target)
    return target


def _build(target: Path) -> None:
    binaries.require_toolchain("the LeaderWorkerSet controller")
    cluster = binaries.prepare_module()
    with (
        step("build the LeaderWorkerSet controller"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch,
    ):
        source, made = Path(scratch, "source"), Path(scratch, "made")
        made.mkdir()
        shutil.copytree(cluster, source)
        fetched = binaries.go_in(source).run("go", "mod", "download", "-json", _module())
        origin = Path(json.loads(fetched)["Dir"])
        _copy(origin, source / "lws")
        with (source / "go.mod").open("a") as file:
            file.write(f"\nrequire {_module(' ')}\n\nreplace {_MODULE} => ./lws\n")
        program = str(made / PROGRAM)
        binaries.go_in(source).run(
            *("go", "build", *recipe.build_flags(), "-o", program, f"{_MODULE}/cmd"),
            timeout_seconds=_BUILD_TIMEOUT_SECONDS,
        )
        for folder in _MANIFESTS:
            shutil.copytree(origin / folder, made / folder)
        _make_writable(made)
        made.rename(target)


def _module(between: str = "@") -> str:
    return f"{_MODULE}{between}{_VERSION}"


def _copy(origin: Path, target: Path) -> None:
    """Copy what the program is made of, and adapt it."""
    target.mkdir()
    for name in _PARTS:
        part = origin / name
        (shutil.copytree if part.is_dir() else shutil.copy)(part, target / name)
    _make_writable(target)
    changed = 0
    for path in target.glob("pkg/webhooks/*.go"):
        text, count = _OLD_CALL.subn(_NEW_CALL, path.read_text())
        path.write_text(text)
        changed += count
    if changed != _CALLS:
        raise RuntimeError(f"{_module()}: {changed} calls adapted instead of {_CALLS}")


def _make_writable(folder: Path) -> None:
    """Undo what came along from the module cache, which is read-only."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
