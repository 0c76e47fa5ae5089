"""What the classes start their engines with, as those engines' own parsers know it.

vLLM's options are in tests/data/engines, written down from its own parser by
`kubesynth_testing.engines.vllm_options`. llama.cpp's are looked up in the library that the embedded
model runs in.
"""

from __future__ import annotations

import argparse
import json
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
import yaml

from kubesynth_api.v1alpha1.server_classes import ServerClassSpec
from kubesynth_operator.servers import manifests
from kubesynth_testing.server_builders import a_server

REPOSITORY = Path(__file__).parents[3]
OPTIONS = json.loads((REPOSITORY / "tests/data/engines/vllm-0.24.0.json").read_text())
FENCED_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHAPES: dict[str, dict[str, Any]] = {
    "bare": {},
    "several GPUs, a revision": {"gpus": 8, "revision": "r1"},
    "a model at a path": {"model": "/models/llama"},
}


def class_of(name: str) -> ServerClassSpec:
    text = (REPOSITORY / f"helm/kubesynth/classes/{name}.yaml").read_text()
    return ServerClassSpec.model_validate(yaml.safe_load(text))


def container(name: str, **server: Any) -> dict[str, Any]:
    """Return the container of a server of a built-in class."""
    manifest = manifests.workload(
        a_server(**server), class_of(name), replicas=1, strategy="Recreate", secret_version=""
    )
    [found] = manifest["spec"]["template"]["spec"]["containers"]
    return dict(found)


class Refused(Exception):
    """The engine would not take an argument."""


class Parser(argparse.ArgumentParser):
    """vLLM's parser, of the same names, numbers of values, choices and types."""

    def __init__(self) -> None:
        super().__init__(allow_abbrev=False, add_help=False)
        kinds = {"integer": int, "number": float}
        for option in OPTIONS["options"]:
            fields: dict[str, Any] = {}
            if option.get("values") == 0:
                fields["action"] = "store_true"
            else:
                fields["type"] = kinds.get(option.get("type"), str)
                fields["nargs"] = option.get("values")
            if "choices" in option and "type" not in option:
                fields["choices"] = option["choices"]
            self.add_argument(*option["names"], **fields)

    def error(self, message: str) -> Any:
        """Raise."""
        raise Refused(message)

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parse; like vLLM's, names may have underscores."""
        plain = [
            "=".join([head.replace("_", "-"), *rest]) if head.startswith("--") else argument
            for argument in arguments
            for head, *rest in [argument.split("=", 1)]
        ]
        return self.parse_args(plain)


def documented(class_name: str) -> Iterator[Any]:
    """Yield the arguments that the documentation adds to a class's."""
    pages = [*REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("examples/*.yaml")]
    for page in sorted(pages):
        text = page.read_text()
        for block in FENCED_YAML.findall(text) if page.suffix == ".md" else [text]:
            if class_name not in block:
                continue
            for manifest in yaml.safe_load_all(block):
                yield from _arguments(manifest, class_name, page.name)


def _arguments(value: Any, class_name: str, page: str) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _arguments(item, class_name, page)
    elif isinstance(value, dict):
        if value.get("classRef", {}).get("name") == class_name and value.get("args"):
            yield pytest.param(value["args"], id=f"{page}: {' '.join(value['args'])}")
        for item in value.values():
            yield from _arguments(item, class_name, page)


def test_options_are_those_of_the_version_in_the_class() -> None:
    version = class_of("vllm").image.rpartition(":v")[2]
    assert OPTIONS["from"].startswith(f"vllm-{version}-")
    assert len(OPTIONS["options"]) > 100


@pytest.mark.parametrize("shape", SHAPES)
def test_vllm_takes_the_arguments_of_its_class(shape: str) -> None:
    server = SHAPES[shape]
    found = container("vllm", **server)
    assert found["command"] == ["vllm", "serve"]
    parsed = Parser().parse(found["args"])
    assert parsed.model_tag == server.get("model", "small")
    assert (parsed.host, parsed.port) == ("0.0.0.0", 8000)
    assert parsed.tensor_parallel_size == server.get("gpus", 1)
    assert parsed.download_dir == "/cache"
    assert parsed.revision == server.get("revision")


def test_vllm_is_done_with_its_requests_before_it_is_killed() -> None:
    parsed = Parser().parse(container("vllm")["args"])
    assert 0 < parsed.shutdown_timeout < class_of("vllm").termination_grace_period_seconds


@pytest.mark.parametrize("rank", [0, 1])
def test_vllm_takes_the_arguments_of_every_node_of_several(rank: int) -> None:
    manifest = manifests.workload(
        a_server(nodes=2, gpus=8, revision="r1", args=["--max-model-len=8192"]),
        class_of("vllm"),
        replicas=1,
        strategy="OneByOne",
        secret_version="",
    )
    role = "worker" if rank else "leader"
    template = manifest["spec"]["leaderWorkerTemplate"][f"{role}Template"]
    [found] = template["spec"]["containers"]
    # As the kubelet fills them in.
    variables = {"$(LWS_WORKER_INDEX)": str(rank), "$(LWS_LEADER_ADDRESS)": "leader"}
    arguments = found["args"]
    for name, value in variables.items():
        arguments = [argument.replace(name, value) for argument in arguments]
    parsed = Parser().parse(arguments)
    assert (parsed.model_tag, parsed.revision, parsed.max_model_len) == ("small", "r1", "8192")
    assert (parsed.tensor_parallel_size, parsed.pipeline_parallel_size) == (8, 2)
    assert (parsed.nnodes, parsed.node_rank, parsed.headless) == (2, rank, rank > 0)
    assert parsed.master_addr == ("leader" if rank else None)


@pytest.mark.parametrize("arguments", list(documented("vllm")))
def test_vllm_takes_the_arguments_in_the_documentation(arguments: list[str]) -> None:
    Parser().parse(container("vllm", args=arguments)["args"])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--max-modle-len=1", "unrecognized arguments"),
        ("--port=http", "invalid int value"),
        ("--dtype=float13", "invalid choice"),
    ],
)
def test_parser_refuses_what_vllm_would(argument: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        Parser().parse(["model", argument])


def test_llama_cpp_has_the_options_of_its_class() -> None:
    arguments = container("llama-cpp")["args"]
    names = [argument for argument in arguments if argument.startswith("--")]
    assert len(names) == len(arguments) / 2
    [library] = Path(xllamacpp.__file__).parent.glob("*.so")
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as code:
        # As a text of its own, which is how its parser is given the names.
        missing = [name for name in names if code.find(f"\0{name}\0".encode()) < 0]
        assert code.find(b"\0--no-such-option\0") < 0
    assert missing == []
