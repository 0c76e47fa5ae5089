"""Reading a manifest: jobs, and the ConfigMaps and Secrets that stand beside them."""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from kubesynth_api import endpoints, field_paths, validation
from kubesynth_api._base import ApiModel, DataKey, ObjectName
from kubesynth_api.chat_templates import TemplateProblem
from kubesynth_api.stages import ConfigMapData
from kubesynth_api.v1alpha1 import synthetic_data_job
from kubesynth_api.v1alpha1.protocols import JinjaText, TokenizerConfig
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJob, SyntheticDataJobSpec
from kubesynth_runner.cli import schema_words, yaml_documents
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.yaml_documents import YamlDocument
from kubesynth_runner.llm import chat_prompts

STDIN = "-"
# Of the name of an object, which is also that of its folder: nothing in it leads elsewhere.
NAME_FORM = "which has lower-case letters, digits, '-' and '.' only"
_NAME: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(ObjectName)
_KEY: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(DataKey)


@dataclasses.dataclass(frozen=True, slots=True)
class DataObject:
    """A ConfigMap or Secret that is written in the manifest: its keys."""

    name: str
    data: Mapping[str, bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class JobDocument:
    """A job as it is written down; `problems` are those of its schema, and then `job` is None."""

    job: SyntheticDataJob | None
    name: str
    document: YamlDocument
    problems: tuple[Problem, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field."""

    path: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """Everything in a file. `documents` are all of it, also those of other kinds."""

    source: str
    folder: Path
    jobs: tuple[JobDocument, ...]
    config_maps: tuple[DataObject, ...]
    secrets: tuple[DataObject, ...]
    documents: tuple[YamlDocument, ...]

    def describe(self, document: YamlDocument, problem: Problem) -> str:
        """Return a problem as one line, with file and line number."""
        return f"{self.source}:{document.line_of(problem.path)}: {problem.path}: {problem.message}"


def read(source: str) -> Manifest:
    """Read the manifest in a file, or on standard input for `-`.

    Raises:
        CommandError: it cannot be read, is no YAML, or a ConfigMap or Secret in it is broken.
    """
    try:
        text = sys.stdin.read() if source == STDIN else Path(source).read_text(encoding="utf-8")
        documents = yaml_documents.load(text, source)
    except OSError as exc:
        raise CommandError(f"{source}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise CommandError(f"{source}: not UTF-8 text: {exc}") from exc
    except yaml_documents.ManifestSyntaxError as exc:
        raise CommandError(str(exc)) from exc
    folder = Path.cwd() if source == STDIN else Path(source).resolve().parent
    return Manifest(
        source,
        folder,
        tuple(_job(item) for item in documents if kind_of(item) == synthetic_data_job.KIND),
        tuple(_data_object(item, source) for item in documents if kind_of(item) == "ConfigMap"),
        tuple(_data_object(item, source) for item in documents if kind_of(item) == "Secret"),
        tuple(documents),
    )


def the_job(manifest: Manifest) -> JobDocument:
    """Return the one job of a manifest.

    Raises:
        CommandError: there is none, or more than one.
    """
    if len(manifest.jobs) == 1:
        return manifest.jobs[0]
    if not manifest.jobs:
        raise no_job(manifest)
    names = ", ".join(job.name for job in manifest.jobs)
    raise CommandError(
        f"{manifest.source}: {len(manifest.jobs)} jobs ({names}), but only one can be run at a "
        "time; put each in a file of its own"
    )


def no_job(manifest: Manifest) -> CommandError:
    """Return the error that there is no job, with what there is instead."""
    found = ", ".join(
        dict.fromkeys(kind_of(item) or "without a kind" for item in manifest.documents)
    )
    said = f"{manifest.source}: no document of kind {synthetic_data_job.KIND}"
    return CommandError(f"{said}, only {found}" if found else said)


def check(manifest: Manifest, document: JobDocument) -> tuple[Problem, ...]:
    """Return all problems of a job: of its schema, else of what it means.

    Prompts in ConfigMaps are looked at where the manifest holds the ConfigMap too.
    """
    if document.job is None:
        return document.problems
    texts = {item.name: decode_texts(item.data) for item in manifest.config_maps}
    return problems_of(document.job, texts)


def problems_of(job: SyntheticDataJob, config_maps: ConfigMapData) -> tuple[Problem, ...]:
    """Return the problems of a job that fits its schema."""
    name = str(job.metadata.get("name") or "")
    findings = validation.check(job.spec, name, config_maps)
    if findings:
        return tuple(Problem(finding.path, finding.message) for finding in findings)
    # What can only be found out by rendering, which the operator does not do.
    return tuple(_failing_templates(job.spec, config_maps))


def notes(spec: SyntheticDataJobSpec) -> Iterator[Problem]:
    """Yield what a user should have a look at; none of it is wrong for certain."""
    for finding in endpoints.notes(spec):
        yield Problem(finding.path, f"note: {finding.message}")


def _failing_templates(spec: SyntheticDataJobSpec, config_maps: ConfigMapData) -> Iterator[Problem]:
    """Yield the chat templates that fail on a sample conversation, as far as they are known."""

    def read(source: JinjaText | TokenizerConfig) -> str:
        text = endpoints.template_text(source, config_maps)
        if text is None:
            raise LookupError
        return text

    for index, model in enumerate(spec.models):
        triton = model.external.triton if model.external is not None else None
        if triton is None or triton.chat_template is None:
            continue
        try:
            chat_prompts.from_api(triton.chat_template, read)
        except LookupError:
            continue  # in a ConfigMap that is not here
        except TemplateProblem as problem:
            path = f"spec.models[{index}].external.triton.chatTemplate"
            yield Problem(path, f"fails on a sample conversation: {problem}")


def decode_texts(data: Mapping[str, bytes]) -> dict[str, str]:
    """Return the keys of a ConfigMap that hold text."""
    texts: dict[str, str] = {}
    for key, value in data.items():
        with contextlib.suppress(UnicodeDecodeError):
            texts[key] = value.decode()
    return texts


def kind_of(document: YamlDocument) -> str:
    """Return the kind that a document names; "" if it names none."""
    return str(document.value.get("kind") or "") if isinstance(document.value, dict) else ""


def _job(document: YamlDocument) -> JobDocument:
    name = name_of(document.value)
    try:
        job = SyntheticDataJob.from_wire(document.value)
    except pydantic.ValidationError as exc:
        return JobDocument(None, name, document, tuple(schema_problems(exc, SyntheticDataJob)))
    return JobDocument(job, name, document)


def schema_problems(exc: pydantic.ValidationError, model: type[ApiModel]) -> Iterator[Problem]:
    """Yield what does not fit the schema, field by field."""
    found = exc.errors(include_url=False, include_input=False)
    paths = [field_paths.of_location(error["loc"]) for error in found]
    for path, error in zip(paths, found, strict=True):
        # A list whose items are wrong also counts as too short: the items say it all.
        if error["type"] == "too_short" and any(other.startswith(f"{path}[") for other in paths):
            continue
        yield Problem(path or "spec", schema_words.describe(error, model))


def is_object_name(name: str) -> bool:
    """Tell whether a cluster could have a ConfigMap, Secret or claim of a name."""
    try:
        return bool(_NAME.validate_python(name))
    except pydantic.ValidationError:
        return False


def is_key(key: str) -> bool:
    """Tell whether a ConfigMap or Secret could have a key of that name."""
    try:
        return _KEY.validate_python(key) not in (".", "..")
    except pydantic.ValidationError:
        return False


def name_of(value: Mapping[str, Any]) -> str:
    """Return the name of an object; "" without one."""
    metadata = value.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, dict) else ""


def _data_object(document: YamlDocument, source: str) -> DataObject:
    """Read a ConfigMap (data, binaryData) or a Secret (data, stringData)."""
    value = document.value
    if not is_object_name(name := name_of(value)):
        where = f"{source}:{document.line_of('metadata.name')}: metadata.name"
        raise CommandError(f"{where}: {name!r} is no name of an object, {NAME_FORM}")
    encoded_field = "data" if value["kind"] == "Secret" else "binaryData"
    plain_field = "stringData" if value["kind"] == "Secret" else "data"
    data: dict[str, bytes] = {}
    for field in (encoded_field, plain_field):  # stringData wins, as in a cluster
        entries = value.get(field) or {}
        if not isinstance(entries, dict):
            raise CommandError(f"{source}:{document.line_of(field)}: {field} must be a map")
        for key, text in entries.items():
            where = f"{source}:{document.line_of(f'{field}.{key}')}: {field}.{key}"
            if not isinstance(text, str):
                raise CommandError(f"{where} must be text; put it in quotes")
            if not is_key(str(key)):
                kind = f"no key of a {value['kind']}: only letters, digits, '-', '_' and '.'"
                raise CommandError(f"{where}: {kind}")
            try:
                decoded = base64.b64decode(text, validate=True) if field == encoded_field else b""
            except binascii.Error as exc:
                raise CommandError(f"{where} is not base64: {exc}") from exc
            data[str(key)] = decoded if field == encoded_field else text.encode()
    return DataObject(name, data)
