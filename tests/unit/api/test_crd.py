"""The generated files: fresh, and what their readers expect."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesynth_api import crd
from kubesynth_api.kinds import KINDS, Kind
from kubesynth_api.version import VERSION
from kubesynth_testing import yaml_files

_ROOT = Path(__file__).parents[3]


def test_generated_files_are_fresh() -> None:
    assert crd.main(["--check"]) == 0, "run `python -m kubesynth_api.crd --write`"


def test_check_names_what_is_stale_and_write_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tmp_path)]
    assert crd.main(["--write", *root]) == 0
    assert crd.main(["--check", *root]) == 0
    stale = tmp_path / "crds" / "kubesynth.io_syntheticdatajobs.yaml"
    stale.write_text("old")
    assert crd.main(["--check", *root]) == 1
    assert "crds/kubesynth.io_syntheticdatajobs.yaml is stale" in capsys.readouterr().err
    assert crd.main(["--write", *root]) == 0
    assert crd.main(["--check", *root]) == 0


def test_generating_twice_gives_the_same_bytes() -> None:
    assert crd.generated_files() == crd.generated_files()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_file_holds_the_definition(kind: Kind) -> None:
    text = crd.generated_files()[f"crds/kubesynth.io_{kind.plural}.yaml"]
    assert yaml_files.load(text) == crd.crd_manifest(kind)
    assert "Do not edit" in text.splitlines()[0]
    assert "&id" not in text, "no anchors: people read this"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_chart_copies_differ_only_in_what_helm_needs(kind: Kind) -> None:
    files = crd.generated_files()
    name = f"kubesynth.io_{kind.plural}.yaml"
    alone = files[f"helm/kubesynth-crds/templates/{name}"]
    with_operator = files[f"helm/kubesynth/templates/crds/{name}"]
    first, *body, last = with_operator.splitlines(keepends=True)
    assert first.strip() == "{{- if and .Values.crds.enabled (not .Values.namespaced) }}"
    assert last.strip() == "{{- end }}"
    assert "".join(body) == alone
    manifest = yaml_files.load(alone.replace('{{ "{{" }}', "{{"))
    assert manifest["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert manifest == crd.crd_manifest(kind)


def test_chart_of_the_crds_has_the_version_of_the_project() -> None:
    chart = yaml_files.load((_ROOT / "helm/kubesynth-crds/Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == VERSION


def test_reference_page_describes_every_field_once() -> None:
    page = crd.generated_files()["docs/reference/syntheticdatajob.md"]
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert len(headings) == len(set(headings))
    for expected in ("## spec", "### spec.pipeline[].closedQA", "### status.conditions[]"):
        assert expected in headings
    assert "### spec.pipeline[].closedQA.sampling" not in headings, "described under models"
    assert "- immutable: `input`, `pipeline`" in page
