"""The texts that a run refers to, and that decide its rows: prompts, plugin files, a tokenizer.

They are in ConfigMaps and files, which others may edit while the run goes on. Plan takes down their
hashes; whoever does more of the run has to have the same texts. Built-in prompts are not among
them: they have versions of their own, and a text that has a version never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from kubesynth_api.conditions import Reason
from kubesynth_api.meta import KeySelector
from kubesynth_api.references import Use, references
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors, tokenizer
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.plan_file import PlanFile

_REFERENCE = ".configMapKeyRef"
# Certificates are renewed, and say nothing about the rows.
_IGNORED = ".caBundle"


def hashes(spec: SyntheticDataJobSpec, environment: RunEnvironment) -> dict[str, str]:
    """Return the hash of each text by the field that refers to it. Blocking.

    Raises:
        ConfigurationError: one cannot be read.
    """
    found = {}
    for reference in references(spec).config_maps:
        field = reference.path.removesuffix(_REFERENCE)
        is_text = field != reference.path and not field.endswith(_IGNORED)
        if is_text and reference.use is Use.FILE and reference.key is not None:
            selector = KeySelector(name=reference.name, key=reference.key)
            found[field] = _hash(environment.read_text(None, selector).encode())
    if spec.tokenizer is not None:
        found["spec.tokenizer.uri"] = _hash(tokenizer.read(spec.tokenizer.uri, environment.mounts))
    return found


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def check(plan: PlanFile, spec: SyntheticDataJobSpec, environment: RunEnvironment) -> None:
    """Refuse texts that are not those that plan saw. Blocking.

    Raises:
        ConfigurationError: ReferenceChanged.
    """
    if plan.texts is None:  # of a version that did not take them down
        return
    changed = difference(plan.texts, hashes(spec, environment))
    if not changed:
        return
    origins = {
        reference.path.removesuffix(_REFERENCE): f" (ConfigMap {reference.name!r}, key "
        f"{reference.key!r})"
        for reference in references(spec).config_maps
    }
    named = ", ".join(f"{field}{origins.get(field, '')}" for field in changed)
    raise errors.ConfigurationError(
        Reason.REFERENCE_CHANGED,
        f"{named}: the text has changed since the job was planned; a run needs the same texts to "
        "its end. Put it back and go on with output.ifExists: Resume, or start a new job with "
        "another output.uri or output.ifExists: Overwrite",
    )


def difference(planned: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the fields whose text is another one."""
    return sorted(field for field in {*planned, *now} if planned.get(field) != now.get(field))
