"""What the documentation shows is right: its jobs are valid, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kubesynth_api import validation
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(REPOSITORY)
    for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
)
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


@pytest.mark.parametrize("page", [page for page in PAGES if jobs_of(page)], ids=str)
def test_jobs_are_valid(page: Path) -> None:
    for text in jobs_of(page):
        manifest = yaml.safe_load(text)
        spec = SyntheticDataJobSpec.model_validate(manifest["spec"])
        assert validation.check(spec, manifest["metadata"]["name"]) == []
