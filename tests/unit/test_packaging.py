"""What is shipped agrees with itself: one version, pinned dependencies, a documented chart."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kubesynth_api.version import VERSION

REPOSITORY = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CHART = REPOSITORY / "helm" / "kubesynth"
PIN = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)
ALL_EXTRAS = list(PROJECT["optional-dependencies"])


def pins(*files: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        text = (REPOSITORY / "constraints" / file).read_text()
        found |= {canonicalize_name(pin["name"]): pin["version"] for pin in PIN.finditer(text)}
    return found


def requirements(*extras: str) -> list[Requirement]:
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def is_pinned(requirement: Requirement, pinned: dict[str, str]) -> bool:
    version = pinned.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version)


@pytest.mark.parametrize(
    ("files", "extras"),
    [
        pytest.param(["runtime.txt"], [], id="runtime"),
        pytest.param(["runtime.txt", "local.txt"], ["local"], id="local"),
        pytest.param(["dev.txt"], ALL_EXTRAS, id="dev"),
    ],
)
def test_constraints_pin_what_the_project_requires(files: list[str], extras: list[str]) -> None:
    pinned = pins(*files)
    missing = [str(wanted) for wanted in requirements(*extras) if not is_pinned(wanted, pinned)]
    assert not missing, "run `make constraints`"


@pytest.mark.parametrize("file", ["runtime.txt", "local.txt"])
def test_what_ships_is_what_is_tested(file: str) -> None:
    assert pins(file).items() <= pins("dev.txt").items(), "run `make constraints`"


@pytest.mark.parametrize("file", ["bootstrap.txt", "runtime.txt", "local.txt", "dev.txt"])
def test_every_pin_has_hashes(file: str) -> None:
    text = (REPOSITORY / "constraints" / file).read_text()
    bare = [pin[0] for pin in PIN.finditer(text) if "--hash=sha256:" not in rest_of(text, pin)]
    assert not bare


def rest_of(text: str, pin: re.Match[str]) -> str:
    """Return the lines of a pin after its first: its hashes."""
    after = text[pin.end() :]
    following = PIN.search(after)
    return after[: following.start()] if following else after


@pytest.mark.parametrize("chart", ["kubesynth", "kubesynth-crds"])
def test_charts_carry_the_version_of_the_project(chart: str) -> None:
    metadata = yaml.safe_load((REPOSITORY / "helm" / chart / "Chart.yaml").read_text())
    assert (metadata["version"], metadata["appVersion"]) == (VERSION, VERSION)


def test_image_carries_the_version_of_the_project() -> None:
    defaults = re.findall(r"^ARG VERSION=(.*)$", (REPOSITORY / "Dockerfile").read_text(), re.M)
    assert set(defaults) == {VERSION}


def test_changelog_has_an_entry_for_the_version() -> None:
    assert f"\n## [{VERSION}]" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_dockerfile_names_no_frontend_image() -> None:
    """A `# syntax` line would pull an image, which a host without a registry cannot."""
    assert not re.search(r"^#\s*syntax\s*=", (REPOSITORY / "Dockerfile").read_text(), re.M)


def test_gate_is_executable() -> None:
    assert os.access(REPOSITORY / ".ci" / "run", os.X_OK)


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return a values file's entries by dotted path; an empty map is an entry."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = f"{path}.{key}" if path else key
        found |= leaves(value, inner) if isinstance(value, dict) and value else {inner: value}
    return found


def test_every_value_of_the_chart_is_commented() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    opaque = 0  # inside a map whose content is Kubernetes' own, commented as a whole
    bare = []
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if opaque and indent >= opaque:
            continue
        opaque = 0
        if not re.match(r"\s*[A-Za-z]+:", line):
            continue
        commented = lines[number - 1].lstrip().startswith("#")
        is_group = line.endswith(":")
        if commented and is_group:
            opaque = indent + 1
        if not commented and not is_group:
            bare.append(line)
    assert not bare


def test_every_value_of_the_chart_is_in_its_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    unknown = [path for path in leaves(values) if not describes(schema, path.split("."))]
    assert not unknown


def describes(schema: dict[str, Any], path: list[str]) -> bool:
    """Tell whether a schema has a property for a path, or leaves what is there to Kubernetes."""
    if not path or "properties" not in schema:
        return True
    return path[0] in schema["properties"] and describes(schema["properties"][path[0]], path[1:])


def test_operator_uses_only_what_the_image_keeps_of_the_kubernetes_client() -> None:
    """docker/slim.sh deletes the client's methods for each call: 60 MB that are never run."""
    source = (REPOSITORY / "operator/kubesynth_operator/kube/client.py").read_text()
    assert set(re.findall(r"\bkubernetes_client\.(\w+)", source)) == {"ApiClient", "Configuration"}
