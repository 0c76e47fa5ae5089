"""The Python environment with Triton and PyTriton, pinned by hash, built once for each pinning.

A third of a gigabyte, of which nothing else needs anything, and with an older NumPy: so it is no
part of the development environment. It lies in the cache folder of the harness.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from kubesynth_testing.cluster import locks, paths
from kubesynth_testing.cluster.progress import step
from kubesynth_testing.cluster.shell import Shell

CONSTRAINTS = paths.REPOSITORY / "constraints" / "triton.txt"
# Triton's Python backend is compiled for each of these, and for no newer one.
PYTHONS = ("3.11", "3.12", "3.13")
_PACKAGES = "import sysconfig; print(sysconfig.get_path('platlib'))"
_LIBRARIES = "import sysconfig; print(sysconfig.get_config_var('LIBDIR'))"


class NoPythonError(RuntimeError):
    """There is no interpreter that Triton's Python backend is made for."""


def python() -> Path:
    """Return the environment's interpreter, building the environment the first time (a minute).

    Raises:
        NoPythonError: none of `PYTHONS` is installed.
        CommandError: the packages cannot be installed.
    """
    base = _base_python()
    version = Shell().run(base, "-c", "import sys; print(sys.version)")
    key = hashlib.sha256(CONSTRAINTS.read_bytes() + version.encode()).hexdigest()[:16]
    folder = paths.cache_folder("triton", key)
    interpreter = folder / "bin" / "python"
    marker = folder / "installed"
    with locks.file_lock(folder.parent / f"{key}.lock", until=marker.exists) as held:
        if held and not marker.exists():
            with step("install Triton (first time: a minute)"):
                Shell().run(base, "-m", "venv", "--clear", folder)
                _install(interpreter)
            marker.touch()
    return interpreter


def library_path(interpreter: Path) -> str:
    """Return LD_LIBRARY_PATH for the server: the folder of the interpreter's own libpython.

    Triton's stub loads libpython by its name alone. Another one of the same version, such as
    Debian's, does not fit this interpreter's standard library.
    """
    return Shell().run(interpreter, "-c", _LIBRARIES).strip()


def packages(interpreter: Path) -> Path:
    """Return the folder of the environment's packages."""
    return Path(Shell().run(interpreter, "-c", _PACKAGES).strip())


def _base_python() -> str:
    """Return this interpreter if Triton knows it, else another one of this machine."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" in PYTHONS:
        return sys.executable
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        if found is not None:
            return found
    raise NoPythonError(f"Triton's Python backend needs one of Python {', '.join(PYTHONS)}")


def _install(interpreter: Path) -> None:
    requirements = ["--require-hashes", "-r", str(CONSTRAINTS)]
    uv = Path(sys.executable).with_name("uv")
    if uv.exists():
        Shell().run(uv, "pip", "install", "--quiet", "--python", interpreter, *requirements)
    else:
        Shell().run(interpreter, "-m", "pip", "install", "--quiet", *requirements)
