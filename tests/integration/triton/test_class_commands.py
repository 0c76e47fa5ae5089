"""The commands of the classes that start Triton, run with the real tritonserver of PyTriton.

The backends are not in it: a server that has read its arguments and its model repository ends by
saying that it lacks the backend. How the engine's own images go on from there was not run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_operator.servers import manifests
from kubesynth_testing.cluster import paths
from kubesynth_testing.server_builders import a_server
from kubesynth_testing.triton import environment

VLLM_OPTIONS = paths.REPOSITORY / "tests" / "data" / "engines" / "vllm-0.24.0.json"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tritonserver, and an mpirun that starts one rank."""
    try:
        interpreter = environment.python()
    except environment.NoPythonError as exc:
        pytest.skip(reason=str(exc))
    packages = environment.packages(interpreter)
    folder = tmp_path_factory.mktemp("programs")
    libraries = f"{environment.library_path(interpreter)}:{packages / 'nvidia_pytriton.libs'}"
    server = packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    scripts = {
        "tritonserver": f'LD_LIBRARY_PATH={libraries} exec {server} "$@"',
        "mpirun": 'while [ "$1" != /bin/sh ]; do shift; done; exec "$@"',
    }
    for name, line in scripts.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    return folder


def start(name: str, programs: Path, scratch: Path, rank: int = 0, **server: Any) -> str:
    """Run the command of a class in a folder of its own; return what it says until it ends."""
    text = (paths.REPOSITORY / f"helm/kubesynth/classes/{name}.yaml").read_text()
    template = ServerClassSpec.model_validate(yaml.safe_load(text))
    manifest = manifests.workload(
        a_server(**server), template, replicas=1, strategy="Recreate", secret_version=""
    )
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    python = Path(shutil.which("python3") or "/usr/bin/python3").parent
    variables |= {
        "KUBESYNTH_CACHE": str(scratch / "cache"),
        "OMPI_COMM_WORLD_RANK": str(rank),  # as Open MPI sets it
        "PATH": f"{programs}:{python}:{os.environ['PATH']}",
    }
    arguments = [text.replace("/tmp/models", str(scratch / "models")) for text in container["args"]]
    done = subprocess.run(
        [*container["command"], *arguments],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    return done.stdout


def test_vllm_s_repository_is_written_and_taken(programs: Path, tmp_path: Path) -> None:
    said = start("triton-vllm", programs, tmp_path, gpus=2, revision="r1")
    assert "vllm" in said
    assert "unrecognized option" not in said
    written = json.loads((tmp_path / "models/llama/1/model.json").read_text())
    cache = str(tmp_path / "cache")
    expected = {"model": "small", "tensor_parallel_size": 2, "download_dir": cache}
    assert written == {**expected, "revision": "r1"}
    options = json.loads(VLLM_OPTIONS.read_text())["options"]
    names = {name for option in options for name in option["names"]}
    assert {f"--{name.replace('_', '-')}" for name in written} <= names


@pytest.mark.parametrize("rank", [0, 1])
def test_tensorrt_llm_s_repository_is_looked_for_in_the_cache(
    programs: Path, tmp_path: Path, rank: int
) -> None:
    said = start("triton-trtllm", programs, tmp_path, rank, gpus=2)
    assert f"{tmp_path}/cache/small" in said
    assert "unrecognized option" not in said


@pytest.mark.parametrize("name", ["triton-vllm", "triton-trtllm"])
def test_an_option_that_triton_does_not_have_is_refused(
    programs: Path, tmp_path: Path, name: str
) -> None:
    assert "unrecognized option" in start(name, programs, tmp_path, args=["--no-such-option=1"])
