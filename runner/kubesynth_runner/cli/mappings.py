"""What stands in for a cluster's objects: the flags --config, --secret, --volume and --server.

Every reference of the job must be mapped, to something that has the key it names; all that is
missing is reported at once, each with the flag that would give it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kubesynth_api import endpoints, references
from kubesynth_api.references import Access, KeyReference, Use
from kubesynth_api.v1alpha1.models import ModelSpec
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner.cli import manifests, server_flags
from kubesynth_runner.cli.errors import CommandError
from kubesynth_runner.cli.manifests import DataObject, Manifest, Problem, decode_texts
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.mounts import Mounts

_ENV_LINE = re.compile(r"^(?:export\s+)?([-._A-Za-z0-9]+)\s*=\s*(.*?)\s*$")


@dataclasses.dataclass(frozen=True, slots=True)
class Flags:
    """The mapping flags as given: NAME=VALUE each."""

    config: Sequence[str] = ()
    secret: Sequence[str] = ()
    volume: Sequence[str] = ()
    server: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Mapped:
    """Folders by the name of the object that they stand for."""

    config_maps: Mapping[str, Path]
    secrets: Mapping[str, Path]
    claims: Mapping[str, Path]


def map_objects(manifest: Manifest, flags: Flags, scratch: Path) -> Mapped:
    """Return a folder for every object, from flags and from the manifest's own documents.

    A flag wins over a document. `scratch` is a private folder for what has to be written out:
    objects of the manifest, single files and environment files.

    Raises:
        CommandError: a flag cannot be read, or names something that is not there.
    """
    config_maps = _write_out(manifest.config_maps, scratch / "config")
    given: dict[str, list[Path]] = {}
    for name, path in _pairs("--config", flags.config, "DIR_OR_FILE"):
        given.setdefault(name, []).append(path)
    for name, paths in given.items():
        config_maps[name] = _config_folder(name, list(dict.fromkeys(paths)), scratch)
    secrets = _write_out(manifest.secrets, scratch / "secret")
    for name, path in _pairs("--secret", flags.secret, "DIR_OR_ENVFILE"):
        secrets[name] = _secret_folder(name, path, scratch)
    claims = dict(_pairs("--volume", flags.volume, "DIR"))
    return Mapped(config_maps, secrets, claims)


def with_servers(spec: SyntheticDataJobSpec, servers: Sequence[str]) -> SyntheticDataJobSpec:
    """Return the job with servers of a cluster replaced by the endpoints of --server.

    Raises:
        CommandError: a server is not mapped, or a flag cannot be read.
    """
    urls = dict(_split("--server", text, server_flags.FORM) for text in servers)
    models = tuple(_with_server(model, urls) for model in spec.models)
    return spec.model_copy(update={"models": models}) if models != spec.models else spec


def environment(
    spec: SyntheticDataJobSpec, mapped: Mapped, base_folder: Path, writer: str
) -> RunEnvironment:
    """Return the environment of the run. The references must have been checked.

    Raises:
        CommandError: an API key cannot be read.
    """
    mounts = Mounts(mapped.claims, mapped.config_maps, mapped.secrets, base_folder)
    keys: dict[str, str] = {}
    for model in spec.models:
        if model.external is not None and model.external.api_key is not None:
            reference = model.external.api_key.secret_key_ref
            path = mapped.secrets[reference.name] / reference.key
            try:
                keys[model.name] = path.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                raise CommandError(f"API key of the model {model.name!r}: {path}: {exc}") from exc
    return RunEnvironment(mounts, keys, writer)


def missing(spec: SyntheticDataJobSpec, mapped: Mapped) -> tuple[Problem, ...]:
    """Return a problem for every reference that is not mapped, or has not got its key."""
    found = references.references(spec)
    return (
        *_missing_keys(found.secrets, mapped.secrets, "Secret", "--secret", "DIR_OR_ENVFILE"),
        *_missing_keys(found.config_maps, mapped.config_maps, "ConfigMap", "--config",
                       "DIR_OR_FILE"),
        *_missing_claims(found, mapped.claims),
    )  # fmt: skip


def missing_code(spec: SyntheticDataJobSpec, mapped: Mapped) -> tuple[Problem, ...]:
    """Return a problem for every file of a plugin that is not mapped, or not there.

    Nothing can stand in for these, not even where only the length of a text would matter.
    """
    code = [item for item in references.references(spec).config_maps if _is_code(item)]
    return tuple(_missing_keys(code, mapped.config_maps, "ConfigMap", "--config", "DIR_OR_FILE"))


def prompt_texts(spec: SyntheticDataJobSpec, mapped: Mapped) -> dict[str, dict[str, str]]:
    """Return the prompts that are in ConfigMaps, by name and key, as far as they are there."""
    texts: dict[str, dict[str, str]] = {}
    for reference in references.references(spec).config_maps:
        folder = mapped.config_maps.get(reference.name)
        if folder is None or reference.key is None or not _is_prompt(reference):
            continue
        with contextlib.suppress(OSError):
            data = {reference.key: (folder / reference.key).read_bytes()}
            texts.setdefault(reference.name, {}).update(decode_texts(data))
    return texts


def notes(declared: SyntheticDataJobSpec, spec: SyntheticDataJobSpec) -> Iterator[str]:
    """Yield what a user should have a look at in the flags that have made `spec` of a job's own."""
    for index, said in endpoints.doubtful_urls(spec):
        model = declared.models[index]
        if model.external is None:
            yield f"--server {_server_name(model)}: note: {said}"


def unused(spec: SyntheticDataJobSpec, flags: Flags) -> Iterator[str]:
    """Yield the flags that the job does not refer to: a mistyped name, most often."""
    found = references.references(spec)
    known = {
        "--secret": (flags.secret, {item.name for item in found.secrets}),
        "--config": (flags.config, {item.name for item in found.config_maps}),
        "--volume": (flags.volume, {item.name for item in found.claims}),
    }
    for flag, (given, names) in known.items():
        for text in given:
            if text.partition("=")[0] not in names:
                yield f"{flag} {text}: the job does not refer to it"


def _missing_keys(
    wanted: Iterable[KeyReference], mapped: Mapping[str, Path], kind: str, flag: str, value: str
) -> Iterator[Problem]:
    for reference in wanted:
        if not _is_needed(reference):
            continue
        folder = mapped.get(reference.name)
        if folder is None:
            message = (
                f"the {kind} {reference.name!r} is not mapped; say where its keys are with"
                f" {flag} {reference.name}={value}"
            )
            yield Problem(reference.path, message)
            continue
        keys = sorted(path.name for path in folder.iterdir())
        if not reference.is_satisfied_by(keys):
            has = ", ".join(keys) or "no keys"
            message = f"the {kind} {reference.name!r} has no key {reference.key!r}; it has {has}"
            yield Problem(reference.path, message)


def _is_needed(reference: KeyReference) -> bool:
    """Tell whether a reference matters without pods: their environment and images do not."""
    return reference.use is not Use.IMAGE_PULL and not reference.path.startswith("spec.runner.")


def _is_prompt(reference: KeyReference) -> bool:
    return reference.path.startswith("spec.pipeline[") or ".chatTemplate." in reference.path


def _is_code(reference: KeyReference) -> bool:
    return reference.path.endswith(".plugin.file.configMapKeyRef")


def _missing_claims(found: references.References, claims: Mapping[str, Path]) -> Iterator[Problem]:
    for reference in found.claims:
        folder = claims.get(reference.name)
        if folder is None:
            message = (
                f"the volume claim {reference.name!r} is not mapped; say where it is with"
                f" --volume {reference.name}=DIR"
            )
            yield Problem(reference.path, message)
        elif reference.access is Access.READ and not folder.is_dir():
            yield Problem(reference.path, f"--volume {reference.name}={folder} is not a folder")


def _with_server(model: ModelSpec, addresses: Mapping[str, str]) -> ModelSpec:
    if model.server is None and model.server_ref is None:
        return model
    name = _server_name(model)
    what = "server" if model.server is not None else "serverRef"
    address = addresses.get(name)
    if address is None:
        form = "URL" if model.server is not None else "URL#MODEL"
        raise CommandError(
            f"models[{model.name}].{what}: without a cluster there is no server to deploy or find;"
            f" name one that runs with --server {name}={form}"
        )
    external = server_flags.endpoint(f"--server {name}={address}", address, model.server)
    return model.model_copy(update={"external": external, "server": None, "server_ref": None})


def _server_name(model: ModelSpec) -> str:
    """Return the name that --server knows a model's server by."""
    return model.server_ref.name if model.server_ref is not None else model.name


def _pairs(flag: str, given: Iterable[str], value: str) -> Iterator[tuple[str, Path]]:
    for text in given:
        name, path = _split(flag, text, value)
        if not manifests.is_object_name(name):
            form = manifests.NAME_FORM
            raise CommandError(f"{flag} {text}: {name!r} is no name of an object, {form}")
        yield name, Path(path).expanduser().absolute()


def _split(flag: str, text: str, value: str) -> tuple[str, str]:
    name, separator, rest = text.partition("=")
    if not (name and separator and rest):
        raise CommandError(f"{flag} {text}: expected {flag} NAME={value}")
    return name, rest


def _config_folder(name: str, paths: Sequence[Path], scratch: Path) -> Path:
    """Return the folder of a ConfigMap's keys; each single file is a key of it."""
    files = {path.name: path for path in paths}
    if len(paths) == 1 and paths[0].is_dir():
        return paths[0]
    for path in paths:
        if not (path.is_file() or path.is_dir()):
            raise CommandError(f"--config {name}={path}: there is no such file or folder")
        if path.is_dir() or files[path.name] != path:
            raise CommandError(
                f"--config {name}={path}: one folder, or files of different names, can be the keys"
                f" of the ConfigMap {name!r}"
            )
    folder = scratch / "config-file" / name
    folder.mkdir(parents=True, exist_ok=True)
    for key, path in files.items():
        (folder / key).symlink_to(path)
    return folder


def _secret_folder(name: str, path: Path, scratch: Path) -> Path:
    """Return the folder of a Secret's keys, written out from an environment file if it is one."""
    if path.is_dir():
        return path
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandError(f"--secret {name}={path}: {exc}") from exc
    data: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.match(line.strip())
        if match is None or not manifests.is_key(match[1]):
            raise CommandError(f"{path}:{number}: expected KEY=VALUE (--secret {name})")
        data[match[1]] = _unquote(match[2]).encode()
    return _write_out([DataObject(name, data)], scratch / "secret-file")[name]


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def _write_out(objects: Iterable[DataObject], root: Path) -> dict[str, Path]:
    """Write each object as a folder of its keys, for this user's eyes only."""
    folders: dict[str, Path] = {}
    for item in objects:
        folder = root / item.name
        folder.mkdir(parents=True, exist_ok=True)
        for key, value in item.data.items():
            file = folder / key
            file.touch(mode=0o600)
            file.write_bytes(value)
        folders[item.name] = folder
    return folders
