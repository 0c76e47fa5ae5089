"""Everything that can be said against a job without looking at anything but its manifest.

The CRD's rules are checked again, for manifests that never meet an API server; then what CEL cannot
see: templates, JSON schemas, roles, names that others derive from, sizes, and fields whose
behaviour this version does not have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from kubesynth_api import (
    availability,
    choices,
    columns,
    endpoints,
    execution,
    input_formats,
    rewards,
    stages,
)
from kubesynth_api._base import ApiModel
from kubesynth_api.columns import RESERVED_COLUMNS
from kubesynth_api.field_paths import walk
from kubesynth_api.findings import Finding, invalid
from kubesynth_api.run_spec import RUN_SPEC_MAX_BYTES, RunSpec
from kubesynth_api.stages import ConfigMapData
from kubesynth_api.uris import Location, UriError, parse, path_advice
from kubesynth_api.v1alpha1.retry_failed import RetryFailed
from kubesynth_api.v1alpha1.storage import InputSpec, StorageOptions
from kubesynth_api.v1alpha1.synthetic_data_job import (
    JOB_NAME_MAX_LENGTH,
    SyntheticDataJobSpec,
    is_job_name,
)

__all__ = ["Finding", "broken_rules", "check", "duplicates"]

_CLAIM_NAME_MAX_LENGTH = 253
_NAMESPACE_MAX_LENGTH = 63
_UID_LENGTH = 36


def check(
    spec: SyntheticDataJobSpec, name: str, config_maps: ConfigMapData | None = None
) -> list[Finding]:
    """Return what is wrong with a job, the invalid before the not yet implemented.

    Args:
        spec: The spec.
        name: The job's name.
        config_maps: Data of the ConfigMaps that hold prompts, by name. A prompt that is not in it
            is not looked at.
    """
    broken = list(broken_rules(spec, "spec"))
    if not is_job_name(name):
        broken.append(
            invalid(
                "metadata.name",
                f"must be at most {JOB_NAME_MAX_LENGTH} characters: lower-case letters, digits and "
                "-, a letter first and no - at the end",
            )
        )
    # A stage without a member has nothing else that could be looked at.
    given = spec.input
    if not broken:
        broken = [
            *duplicates("spec.models", (model.name for model in spec.models)),
            *duplicates("spec.runner.env", (variable.name for variable in spec.runner.env)),
            *endpoints.check(spec, name, config_maps or {}),
            *(_input(given) if given is not None else ()),
            *_locations(spec),
            *(_storage("spec.input", given.uri, given.storage) if given is not None else ()),
            *_storage("spec.output", spec.output.uri, spec.output.storage),
            *(_earlier(retry, spec) if (retry := spec.retry_failed) is not None else ()),
            *_prices(spec),
            *stages.check(spec, config_maps or {}),
            *choices.check(spec),
            *rewards.check(spec),
            *execution.check(spec),
            *_size(spec, name),
        ]
    return [*broken, *availability.check(spec)]


def broken_rules(model: ApiModel, path: str) -> Iterator[Finding]:
    """Yield the CEL rules that `model`, which is found at `path`, or a part of it breaks."""
    for place, value in walk(model, path):
        if isinstance(value, ApiModel):
            for rule in value.cel:
                if rule.holds is not None and not rule.holds(value):
                    message = rule.explain(value) or rule.message
                    yield invalid(place + (rule.field_path or ""), message)


def duplicates(path: str, names: Iterable[str]) -> Iterator[Finding]:
    """Yield each name that occurs more than once in the list at `path`."""
    for name, times in Counter(names).items():
        if times > 1:
            yield invalid(path, f"the name {name!r} occurs {times} times")


def _input(source: InputSpec) -> Iterator[Finding]:
    for path, column in (
        ("spec.input.textColumn", source.text_column),
        *((f"spec.input.columns.{name}", name) for name in source.columns),
    ):
        if column in RESERVED_COLUMNS:
            yield invalid(path, f"the column name {column!r} is kubesynth's own; choose another")
    yield from _pattern(source)
    if not columns.is_text(source):
        return
    if source.id_column is not None:
        yield invalid("spec.input.idColumn", "text files have no columns; leave it out")
    for name, original in source.columns.items():
        if original != "text":
            yield invalid(
                f"spec.input.columns.{name}", f"text files have no column {original!r}, only text"
            )


def _pattern(source: InputSpec) -> Iterator[Finding]:
    """Refuse patterns that cannot match, and those of files that are not read."""
    try:
        location = parse(source.uri)
    except UriError:
        return  # told elsewhere
    if not location.is_pattern or location.scheme in ("http", "https"):
        return
    parts = location.path.split("/")
    if any("**" in part and part != "**" for part in parts):
        yield invalid("spec.input.uri", f"{source.uri}: ** stands for whole folders: a/**/*.md")
    said = input_formats.advice(input_formats.ending(parts[-1]))
    if source.format == "Auto" and said is not None:
        yield invalid("spec.input.uri", f"{source.uri}: {said}")


def _locations(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Refuse locations that cannot be, and an output that swallows its own input."""
    uris = {"spec.output.uri": spec.output.uri}
    if spec.input is not None:
        uris["spec.input.uri"] = spec.input.uri
    if spec.tokenizer is not None:
        uris["spec.tokenizer.uri"] = spec.tokenizer.uri
    found = {}
    for path, uri in uris.items():
        try:
            location = found[path] = parse(uri)
        except UriError as exc:
            yield invalid(path, str(exc))
            continue
        if said := path_advice(uri):
            yield invalid(path, said)
        if location.scheme == "pvc" and len(location.name) > _CLAIM_NAME_MAX_LENGTH:
            yield invalid(path, "the name of the claim is too long")
    source, target = found.get("spec.input.uri"), found.get("spec.output.uri")
    if target is not None and target.is_pattern:
        yield invalid("spec.output.uri", "must be a folder, not a pattern")
    elif source is not None and target is not None:
        yield from _overlap(source, target, uris["spec.input.uri"])


def _overlap(source: Location, target: Location, shown: str) -> Iterator[Finding]:
    """Refuse an output that would swallow its own input, or become part of it."""
    if (source.scheme, source.name) != (target.scheme, target.name):
        return
    if _is_within(source.fixed_path, target.path):
        yield invalid(
            "spec.output.uri",
            f"must not hold the input ({shown}): an output is a folder of its own",
        )
    elif not source.is_pattern and _is_within(target.path, source.path):
        yield invalid(
            "spec.output.uri",
            f"must not be inside the input ({shown}): its files would be read as input, too",
        )


def _earlier(retry: RetryFailed, spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Refuse an output that would mix with, or delete, that of the run that is replayed."""
    field = "spec.retryFailed.fromOutput"
    yield from _storage("spec.retryFailed", retry.from_output, retry.storage)
    try:
        earlier = parse(retry.from_output)
        target = parse(spec.output.uri)
    except UriError as exc:
        yield invalid(field, str(exc))
        return
    if said := path_advice(retry.from_output):
        yield invalid(field, said)
    elif earlier.is_pattern:
        yield invalid(field, "must be the output of one run, not a pattern")
    elif (earlier.scheme, earlier.name) == (target.scheme, target.name) and (
        _is_within(earlier.path, target.path) or _is_within(target.path, earlier.path)
    ):
        yield invalid(
            "spec.output.uri",
            f"must be another folder than that of the run whose failed records are replayed, and "
            f"neither inside nor around it ({retry.from_output})",
        )


def _storage(path: str, uri: str, storage: StorageOptions | None) -> Iterator[Finding]:
    """Refuse options that nothing would look at."""
    try:
        scheme = parse(uri).scheme
    except UriError:
        return
    if storage is None or scheme in ("s3", "gs", "az"):
        return
    if scheme not in ("http", "https"):
        yield invalid(f"{path}.storage", f"{scheme} has no such options; leave it out")
        return
    for name in ("endpoint", "region", "path_style", "credentials"):
        if getattr(storage, name) is not None:
            field = StorageOptions.model_fields[name].alias or name
            yield invalid(
                f"{path}.storage.{field}", f"{scheme} takes nothing but caBundle; leave it out"
            )


def _prices(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Refuse money that cannot be counted, and prices of nobody."""
    if spec.budget is None:
        return
    roles = {model.name for model in spec.models}
    for role in spec.budget.prices:
        if role not in roles:
            yield invalid(f"spec.budget.prices.{role}", f"there is no model named {role!r}")
    if spec.budget.usd is None:
        return
    for role in sorted(roles - set(spec.budget.prices)):
        yield invalid(
            "spec.budget.usd",
            f"needs a price of every model, which may be 0; budget.prices.{role} is missing",
        )


def _is_within(path: str, folder: str) -> bool:
    inner, outer = _parts(path), _parts(folder)
    return inner[: len(outer)] == outer


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _size(spec: SyntheticDataJobSpec, name: str) -> Iterator[Finding]:
    run = RunSpec(
        name=name, namespace="n" * _NAMESPACE_MAX_LENGTH, uid="u" * _UID_LENGTH, spec=spec
    )
    size_bytes = len(run.to_json().encode())
    if size_bytes > RUN_SPEC_MAX_BYTES:
        yield invalid(
            "spec",
            f"takes {size_bytes} bytes of JSON, more than the {RUN_SPEC_MAX_BYTES} that a run may; "
            "move long prompts into ConfigMaps",
        )
