"""Builds controllers that users add to a cluster, for tests beside a bare API server.

They are compiled within the module of the cluster's programs, with the versions of Kubernetes that
those have: most of it is compiled already, so that it costs seconds. Their own go.mod asks for
older versions, all of which would be compiled for them alone. Where their source does not fit those
versions, or asks for more than a test needs, single lines of it are changed: `Change` says which.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kubesynth_testing.cluster import binaries, locks, paths, recipe
from kubesynth_testing.cluster.progress import step

_BUILD_TIMEOUT_SECONDS = 1800.0

PROGRAM = "manager"


@dataclass(frozen=True, slots=True)
class Change:
    """What is replaced in the files that a pattern names; each has it once."""

    files: str
    pattern: str
    replacement: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """A Go module of which a changed copy is compiled.

    `parts` are the files and folders that are copied, `without` the files that are left out.
    """

    module: str
    version: str
    parts: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    without: str = ""


@dataclass(frozen=True, slots=True)
class Addon:
    """A controller: its program's package, and the folders of its manifests."""

    name: str
    package: str
    manifests: tuple[str, ...]
    sources: tuple[Source, ...]


LEADER_WORKER_SET = Addon(
    name="lws",
    package="sigs.k8s.io/lws/cmd",
    manifests=("config/crd/bases", "config/webhook"),
    sources=(
        Source(
            "sigs.k8s.io/lws",
            "v0.8.0",
            ("api", "client-go", "cmd", "pkg", "go.mod", "go.sum"),
            (
                # Since controller-runtime 0.23 a webhook's object is an argument.
                Change(
                    "pkg/webhooks/*_webhook.go",
                    r"NewWebhookManagedBy\(mgr\)\.\s*For\((&\S+\{\})\)\.\s*"
                    r"WithDefaulter\((.+)\)\.\s*WithValidator\((.+)\)",
                    r"NewWebhookManagedBy(mgr, \1).WithCustomDefaulter(\2).WithCustomValidator(\3)",
                    count=2,
                ),
            ),
        ),
    ),
)
KUEUE = Addon(
    name="kueue",
    package="sigs.k8s.io/kueue/cmd/kueue",
    manifests=("config/components/crd/bases", "config/components/webhook"),
    sources=(
        Source(
            "sigs.k8s.io/kueue",
            "v0.17.0",
            ("apis", "client-go", "cmd", "internal", "pkg", "go.mod", "go.sum"),
            (
                # Of the kinds that it can queue, Jobs alone: the others bring their projects along.
                Change(
                    "pkg/controller/jobs/jobs.go",
                    r'(?s)import \(.*(_ "\S+/controller/jobs/job").*\)',
                    r"import (\n\t\1\n)",
                ),
                # A folder that a test may not have.
                Change(
                    "cmd/kueue/main.go",
                    r'"/etc/kueue/metrics/certs"',
                    r'os.Getenv("KUEUE_METRICS_CERTIFICATES")',
                ),
            ),
        ),
        # What is left out describes types of an older Kubernetes, and is used by nothing here.
        Source(
            "github.com/kubeflow/trainer/v2",
            "v2.2.0",
            ("pkg/apis", "go.mod"),
            without="**/zz_generated.openapi.go",
        ),
    ),
)

BY_NAME = {addon.name: addon for addon in (LEADER_WORKER_SET, KUEUE)}


def ensure(addon: Addon) -> Path:
    """Build a controller if it is missing.

    Returns the folder with `PROGRAM` and with the module's manifests, in folders called as there.

    Raises:
        MissingToolchainError: It must be built and there is no `go`.
        CommandError: The build failed.
    """
    key = recipe.content_key(paths.FILES, (), recipe.binaries_key(), repr(addon))
    target = paths.cache_folder("addons") / f"{addon.name}-{addon.sources[0].version}-{key}"
    with locks.file_lock(paths.cache_root() / "addons.lock", until=target.exists):
        if not target.exists():
            _build(addon, target)
    return target


def ensure_all() -> None:
    """Build the controllers that are missing; errors are those of `ensure`."""
    for addon in BY_NAME.values():
        ensure(addon)


def _build(addon: Addon, target: Path) -> None:
    binaries.require_toolchain(f"the controller of {addon.name}")
    cluster = binaries.prepare_module()
    with (
        step(f"build the controller of {addon.name}"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch,
    ):
        module, made = Path(scratch, "module"), Path(scratch, "made")
        made.mkdir()
        shutil.copytree(cluster, module)
        origins = [_add(source, module) for source in addon.sources]
        binaries.go_in(module).run(
            *("go", "build", *recipe.build_flags(), "-o", str(made / PROGRAM), addon.package),
            timeout_seconds=_BUILD_TIMEOUT_SECONDS,
        )
        for folder in addon.manifests:
            shutil.copytree(origins[0] / folder, made / folder)
        _make_writable(made)
        made.rename(target)


def _add(source: Source, module: Path) -> Path:
    """Add the changed copy of a source to a module; return where the original is."""
    name = source.module.replace("/", "-")
    fetched = binaries.go_in(module).run(
        "go", "mod", "download", "-json", f"{source.module}@{source.version}"
    )
    origin, copy = Path(json.loads(fetched)["Dir"]), module / name
    for part in source.parts:
        (copy / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (origin / part).is_dir() else shutil.copy)(origin / part, copy / part)
    _make_writable(copy)
    for path in copy.glob(source.without) if source.without else ():
        path.unlink()
    for change in source.changes:
        _carry_out(change, copy)
    with (module / "go.mod").open("a") as file:
        file.write(f"\nrequire {source.module} {source.version}\n")
        file.write(f"\nreplace {source.module} => ./{name}\n")
    return origin


def _carry_out(change: Change, folder: Path) -> None:
    found = 0
    for path in folder.glob(change.files):
        text, count = re.subn(change.pattern, change.replacement, path.read_text())
        path.write_text(text)
        found += count
    if found != change.count:
        raise RuntimeError(f"{change.pattern!r} is in {change.files} {found} times")


def _make_writable(folder: Path) -> None:
    """Undo what came along from the module cache, which is read-only."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
