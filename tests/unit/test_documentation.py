"""What the documentation shows is right: its jobs are valid, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesynth_api import validation
from kubesynth_api._base import ApiModel
from kubesynth_api.v1alpha1.model_servers import ModelServer
from kubesynth_api.v1alpha1.server_classes import ClusterModelServerClass, ModelServerClass
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(REPOSITORY)
    for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
)
KINDS: dict[str, type[ApiModel]] = {
    "ModelServer": ModelServer,
    "ModelServerClass": ModelServerClass,
    "ClusterModelServerClass": ClusterModelServerClass,
}
FENCED_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")


def jobs_of(page: Path) -> list[str]:
    blocks = FENCED_YAML.findall((REPOSITORY / page).read_text())
    return [block for block in blocks if "kind: SyntheticDataJob" in block]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files(page: Path) -> None:
    links = LINK.findall((REPOSITORY / page).read_text())
    dead = [link for link in links if not (REPOSITORY / page).parent.joinpath(link).exists()]
    assert not dead


def servers_of(page: Path) -> list[dict[str, Any]]:
    blocks = FENCED_YAML.findall((REPOSITORY / page).read_text())
    manifests = [each for block in blocks for each in yaml.safe_load_all(block)]
    return [each for each in manifests if isinstance(each, dict) and each.get("kind") in KINDS]


@pytest.mark.parametrize("page", [page for page in PAGES if servers_of(page)], ids=str)
def test_model_servers_and_classes_are_valid(page: Path) -> None:
    for manifest in servers_of(page):
        KINDS[manifest["kind"]].from_wire(manifest)


@pytest.mark.parametrize("page", [page for page in PAGES if jobs_of(page)], ids=str)
def test_jobs_are_valid(page: Path) -> None:
    for text in jobs_of(page):
        manifest = yaml.safe_load(text)
        spec = SyntheticDataJobSpec.model_validate(manifest["spec"])
        assert validation.check(spec, manifest["metadata"]["name"]) == []
