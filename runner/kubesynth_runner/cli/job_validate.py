"""`kubesynth validate`: every problem of every job in some manifests, with file and line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kubesynth_api import clusters
from kubesynth_runner.cli import manifests
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.manifests import JobDocument, Manifest, Problem

EXIT_INVALID = 1


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
    if not manifest.jobs:
        raise CommandError(f"{source}: no document of kind SyntheticDataJob")
    valid = True
    for document in manifest.jobs:
        problems = manifests.check(manifest, document)
        for problem in problems:
            print(manifest.describe(document.document, problem), file=sys.stderr)
        if not problems:
            print(f"{source}: {document.name} is valid")
            _note_what_clusters_refuse(manifest, document)
        valid = valid and not problems
    return valid


def _note_what_clusters_refuse(manifest: Manifest, document: JobDocument) -> None:
    """Say what `kubesynth run` takes and a cluster does not."""
    if document.job is None:
        return
    for finding in clusters.check(document.job.spec):
        problem = Problem(finding.path, f"on a cluster this is refused: {finding.message}")
        print(manifest.describe(document.document, problem), file=sys.stderr)
