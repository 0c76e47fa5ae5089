"""The classes that come with the chart, made at start-up where they are missing.

A chart cannot hold CRDs and objects of them in one first installation, so the chart has a ConfigMap
that is mounted into the operator, one file a class. A class that is there is left as it is: it is
the user's. To get a new version of one, delete it and restart the operator.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import yaml

from kubesynth_api.labels import API_VERSION
from kubesynth_api.v1alpha1.server_classes import CLUSTER_KIND, KIND, ServerClassSpec
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient
from kubesynth_operator.kube.resources import CLUSTER_SERVER_CLASSES, SERVER_CLASSES
from kubesynth_operator.unreadable import Unreadable

_logger = logging.getLogger(__name__)
_RETRY_SECONDS = 30.0


def load(folder: Path, unreadable: Unreadable) -> dict[str, dict[str, Any]]:
    """Read the specs of a folder, NAME.yaml each.

    A file that is no class, or one of another version, is left out: the others are of use.
    """
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        with unreadable.left_out("classes", path.name):
            found[path.stem] = _read(path)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        spec: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as exc:
        raise ValueError(f"{path} is no YAML: {exc}") from exc
    ServerClassSpec.from_wire(spec)
    return spec


async def create_missing(
    client: KubeClient, specs: dict[str, dict[str, Any]], namespaces: tuple[str, ...]
) -> None:
    """Make every class that is not there: the cluster's, or each namespace's own.

    Tries again until all are there, and then returns.
    """
    targets: list[str | None] = list(namespaces) or [None]
    todo = [(namespace, name) for namespace in targets for name in specs]
    while todo:
        todo = [
            (namespace, name)
            for namespace, name in todo
            if not await _create(client, namespace, name, specs[name])
        ]
        if todo:
            await asyncio.sleep(_RETRY_SECONDS)


async def _create(
    client: KubeClient, namespace: str | None, name: str, spec: dict[str, Any]
) -> bool:
    """Make one class; tell whether it is there now."""
    resource = CLUSTER_SERVER_CLASSES if namespace is None else SERVER_CLASSES
    manifest = {
        "apiVersion": API_VERSION,
        "kind": CLUSTER_KIND if namespace is None else KIND,
        "metadata": {"name": name},
        "spec": spec,
    }
    try:
        await client.create(resource, namespace, manifest)
    except errors.AlreadyExistsError:
        return True
    except errors.KubeError as exc:
        _logger.warning("class not created", extra={"class": name, "error": str(exc)})
        return False
    _logger.info("class created", extra={"class": name, "namespace": namespace or "*"})
    return True
