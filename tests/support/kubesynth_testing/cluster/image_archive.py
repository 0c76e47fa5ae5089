"""Writes container images straight from files, without a Docker daemon.

The format is that of `docker save`: a tar of one JSON configuration for each image, its layers as
tar files, and a `manifest.json` that names them (the "Docker image specification", version 1.2).
containerd imports it. Equal layers are stored once.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_READ_BYTES = 1 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Image:
    """An image to write.

    Attributes:
        name: Repository and tag.
        layers: Uncompressed tar files, the lowest first.
        entrypoint: The program that runs without a command.
        path: The value of PATH inside.
    """

    name: str
    layers: list[Path]
    entrypoint: list[str] = field(default_factory=list)
    path: str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_layer(
    target: Path, files: Mapping[str, Path], links: Mapping[str, str] | None = None
) -> Path:
    """Write a layer of programs and symbolic links that belong to root, and an open /tmp.

    Args:
        target: The tar file to write.
        files: The file to take for each path in the image; all become executable.
        links: What each symbolic link in the image points to.

    Returns:
        `target`.
    """
    with tarfile.open(target, "w") as layer:
        scratch = tarfile.TarInfo("tmp")
        scratch.type, scratch.mode = tarfile.DIRTYPE, 0o1777
        layer.addfile(scratch)
        for name, source in files.items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.mode, entry.size = 0o755, source.stat().st_size
            with source.open("rb") as content:
                layer.addfile(entry, content)
        for name, points_to in (links or {}).items():
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, points_to
            layer.addfile(entry)
    return target


def write_archive(target: Path, images: list[Image]) -> None:
    """Write images to one archive that `ctr images import` and `docker load` read."""
    digests = {layer: _digest(layer) for image in images for layer in image.layers}
    manifest = []
    with tarfile.open(target, "w") as archive:
        written: set[str] = set()
        for layer, digest in digests.items():
            if digest not in written:
                archive.add(layer, f"{digest}/layer.tar")
                written.add(digest)
        for image in images:
            content = json.dumps(_configuration(image, digests), sort_keys=True).encode()
            name = f"{hashlib.sha256(content).hexdigest()}.json"
            _add_bytes(archive, name, content)
            layers = [f"{digests[layer]}/layer.tar" for layer in image.layers]
            manifest.append({"Config": name, "RepoTags": [image.name], "Layers": layers})
        _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())


def _configuration(image: Image, digests: Mapping[Path, str]) -> dict[str, object]:
    return {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": [f"PATH={image.path}"], "Entrypoint": image.entrypoint},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{digests[layer]}" for layer in image.layers],
        },
    }


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while block := source.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
