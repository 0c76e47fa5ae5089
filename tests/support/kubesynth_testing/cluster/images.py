"""Builds the project's image from this checkout, and its base image where none can be pulled."""

from __future__ import annotations

import re
from pathlib import Path

from kubesynth_testing.cluster import debian, host, locks, paths, recipe
from kubesynth_testing.cluster.docker_client import Docker
from kubesynth_testing.cluster.progress import say, step

REPOSITORY = "kubesynth.local/kubesynth"

_BASE_REPOSITORY = "kubesynth.local/python"
_BASE_PACKAGES = ["python3", "python3-venv", "ca-certificates", "libgomp1", "libstdc++6"]
_BASE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CONTENT_LABEL = "kubesynth.io/content"
_SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE")
_SOURCE_FOLDERS = ("constraints", "crds", "docker", "operator", "runner")
_KEEP_IMAGES = 4
_BUILD_TIMEOUT_SECONDS = 1800.0


def build(docker: Docker, *, tag: str | None = None, extras: str = "") -> str:
    """Build the project's image, unless it is there with the same content, and return its name.

    Args:
        docker: The daemon that builds it.
        tag: Its name; by default the name says the content, so that a cluster that holds an
            older image of the same checkout cannot confuse the two.
        extras: Optional parts to install, comma-separated, such as `local`.

    Raises:
        CommandError: The build failed.
    """
    with locks.file_lock(paths.cache_root() / "image.lock"):
        return _build(docker, tag, extras)


def build_for_tests(docker: Docker) -> dict[str, str]:
    """Build the images that tests run, and return their names by the extras in them."""
    return {extras: build(docker, extras=extras) for extras in ("", "local")}


def _build(docker: Docker, tag: str | None, extras: str) -> str:
    base = _base_image(docker)
    key = project_key(extras, base or "")
    name = tag or f"{REPOSITORY}:{key}"
    if docker.has_image(name) and docker.image_label(name, _CONTENT_LABEL) == key:
        return name
    command = ["build", "--network=host", "--tag", name, "--label", f"{_CONTENT_LABEL}={key}"]
    command += ["--build-arg", f"EXTRAS={extras}"]
    if base is not None:
        command += ["--build-arg", f"BASE_IMAGE={base}"]
    bundle = host.ca_bundle()
    if bundle is not None:
        command += ["--secret", f"id=ca,src={bundle}"]
    with step(f"build the image {name}"):
        docker.run(*command, paths.REPOSITORY, timeout_seconds=_BUILD_TIMEOUT_SECONDS)
    docker.keep_newest(name.rpartition(":")[0], _KEEP_IMAGES)
    return name


def project_key(extras: str, base: str) -> str:
    """Return a hash of everything that goes into the project's image."""
    files = [paths.REPOSITORY / name for name in _SOURCES]
    for folder in _SOURCE_FOLDERS:
        files += (paths.REPOSITORY / folder).rglob("*")
    kept = [path for path in files if path.is_file() and not _is_ignored(path)]
    return recipe.content_key(paths.REPOSITORY, kept, extras, base)


def _is_ignored(path: Path) -> bool:
    return any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)


def _base_image(docker: Docker) -> str | None:
    """Return the base image that must be named in a build; None leaves the Dockerfile's default."""
    files = [Path(debian.__file__)]
    key = recipe.content_key(Path(debian.__file__).parent, files, debian.SUITE, *_BASE_PACKAGES)
    own = f"{_BASE_REPOSITORY}:{key}"
    if docker.has_image(own):
        return own
    default = _default_base_image()
    if docker.has_image(default) or docker.can_pull(default):
        return None
    say(f"{default} cannot be pulled: the base image is made from Debian packages")
    with paths.scratch_folder("base-image") as scratch:
        archive = scratch / "python.tar"
        debian.root_file_system(archive, _BASE_PACKAGES)
        changes = [f"--change=ENV PATH={_BASE_PATH}", '--change=CMD ["python3"]']
        docker.run("import", *changes, archive, own)
    docker.keep_newest(_BASE_REPOSITORY, 1)
    return own


def _default_base_image() -> str:
    """Return the base image that the Dockerfile names.

    Raises:
        LookupError: The Dockerfile has no `ARG BASE_IMAGE=IMAGE`.
    """
    text = (paths.REPOSITORY / "Dockerfile").read_text()
    found = re.search(r"^ARG BASE_IMAGE=(\S+)", text, re.MULTILINE)
    if found is None:
        raise LookupError("the Dockerfile has no default for ARG BASE_IMAGE")
    return found[1]
