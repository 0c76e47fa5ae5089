"""`kubesynth validate`: every problem of all that is kubesynth's in manifests, with its line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pydantic

from kubesynth_api import clusters, validation
from kubesynth_api.kinds import KINDS
from kubesynth_api.labels import GROUP
from kubesynth_api.v1alpha1.server_classes import (
    PLACEHOLDERS,
    ClusterModelServerClass,
    ModelServerClass,
    unknown_placeholders,
)
from kubesynth_runner.cli import manifests
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.manifests import JobDocument, Manifest, Problem
from kubesynth_runner.cli.yaml_documents import YamlDocument

EXIT_INVALID = 1
# What jobs refer to: looked at with them.
_READ_ALONG = ("ConfigMap", "Secret")
_PLACEHOLDERS = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)


def validate(sources: Sequence[str]) -> int:
    """Print what is wrong; return 0 if nothing is, else 1."""
    valid = True
    for source in sources:
        try:
            valid = _validate(source) and valid
        except CommandError as exc:
            print(exc, file=sys.stderr)
            valid = False
    return 0 if valid else EXIT_INVALID


def _validate(source: str) -> bool:
    manifest = manifests.read(source)
    if not manifest.documents:
        raise manifests.no_job(manifest)
    jobs = {id(job.document): job for job in manifest.jobs}
    valid = True
    for document in manifest.documents:
        job = jobs.get(id(document))
        if job is None and _is_foreign(document):
            if manifests.kind_of(document) not in _READ_ALONG:
                print(f"{source}: skipped: {_label(document)}")
            continue
        problems = _other_problems(document) if job is None else manifests.check(manifest, job)
        for problem in problems:
            print(manifest.describe(document, problem), file=sys.stderr)
        if not problems:
            name = manifests.name_of(document.value)
            print(f"{source}: {name if job is not None else _label(document)} is valid")
        if job is not None and job.job is not None and not problems:
            for note in manifests.notes(job.job.spec):
                print(manifest.describe(document, note), file=sys.stderr)
            _note_what_clusters_refuse(manifest, job)
        valid = valid and not problems
    return valid


def _is_foreign(document: YamlDocument) -> bool:
    """Tell whether a document is for other programs: it has a kind, of another API group."""
    if not manifests.kind_of(document):
        return False
    group, _, _ = str(document.value.get("apiVersion") or "").rpartition("/")
    if group == GROUP:
        return False
    return manifests.kind_of(document).lower() not in {kind.name.lower() for kind in KINDS}


def _label(document: YamlDocument) -> str:
    return f"{manifests.kind_of(document)} {manifests.name_of(document.value)}".rstrip()


def _other_problems(document: YamlDocument) -> tuple[Problem, ...]:
    """Return the problems of a model server or a class, or that it is neither."""
    name = manifests.kind_of(document)
    kind = next((kind for kind in KINDS if kind.name == name), None)
    if kind is None:
        known = ", ".join(kind.name for kind in KINDS)
        said = f"{name!r} is no kind of {GROUP}" if name else "is required"
        return (Problem("kind", f"{said}; there are {known}"),)
    try:
        found = kind.model.from_wire(document.value)
    except pydantic.ValidationError as exc:
        return tuple(manifests.schema_problems(exc, kind.model))
    broken = [
        Problem(item.path.removeprefix("."), item.message)
        for item in validation.broken_rules(found, "")
    ]
    if isinstance(found, ModelServerClass | ClusterModelServerClass):
        broken += [
            Problem(path, f"{text} is no placeholder of a class; there are {_PLACEHOLDERS}")
            for path, text in unknown_placeholders(found.spec)
        ]
    return tuple(broken)


def _note_what_clusters_refuse(manifest: Manifest, document: JobDocument) -> None:
    """Say what `kubesynth run` takes and a cluster does not."""
    if document.job is None:
        return
    for finding in clusters.check(document.job.spec):
        problem = Problem(finding.path, f"on a cluster this is refused: {finding.message}")
        print(manifest.describe(document.document, problem), file=sys.stderr)
