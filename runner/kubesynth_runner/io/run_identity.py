"""Whose output a folder is: `run.json`, created once, settles Fail, Resume and Overwrite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from kubesynth_api.conditions import Reason
from kubesynth_api.version import VERSION
from kubesynth_runner import errors
from kubesynth_runner.io import layout
from kubesynth_runner.io.storage import Storage

IfExists = Literal["Fail", "Resume", "Overwrite"]


class RunIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """Content of run.json.

    `run_id` is the uid of the job that began the run. A job that resumes it becomes an owner too,
    by a file of its own in the run's folder.
    """

    run_id: str
    pipeline_hash: str
    job: str
    version: str = VERSION
    # True while an Overwrite has announced itself but not finished deleting.
    clearing: bool = False
    # Hashes of what `pipeline_hash` is made of, by field; none in runs of older versions.
    content: dict[str, str] = {}


_MAX_NAMED = 5  # of the fields that differ
_DECODER = msgspec.json.Decoder(RunIdentity)


def acquire(
    storage: Storage,
    *,
    uid: str,
    job: str,
    pipeline_hash: str,
    if_exists: IfExists,
    content: Mapping[str, str] | None = None,
) -> RunIdentity:
    """Make the output ours, or say whose it is. Safe to repeat, also after a crash.

    An earlier run of a job of the same name, for which no model has answered yet, is no run: what
    it has left is deleted. `content` are `RunSpec.content_hashes`, to say what differs.

    Raises:
        ConfigurationError: OutputConflict, the folder holds a run that this job may not touch.
    """
    mine = RunIdentity(
        uid, pipeline_hash, job, clearing=if_exists == "Overwrite", content=dict(content or {})
    )
    if not storage.exists(layout.RUN):
        if if_exists != "Overwrite":
            _refuse_foreign_files(storage)
        if storage.create(layout.RUN, msgspec.json.encode(mine)):
            return _finish_clearing(storage, mine)
    found = load(storage)
    if found is None:
        raise errors.RetryLaterError(
            Reason.OUTPUT_UNWRITABLE, f"{storage.uri}/{layout.RUN} vanished while it was read"
        )
    if _is_owner(storage, found, uid):
        return _finish_clearing(storage, found)
    match if_exists:
        case "Resume" if found.pipeline_hash == pipeline_hash and not found.clearing:
            storage.create(layout.RunLayout(found.run_id).owner(uid), job.encode())
            return found
        case "Overwrite":
            storage.put(layout.RUN, msgspec.json.encode(mine))
            return _finish_clearing(storage, mine)
    if found.job == job and not found.clearing and _has_nothing(storage, found):
        mine = msgspec.structs.replace(mine, clearing=True)
        storage.put(layout.RUN, msgspec.json.encode(mine))
        return _finish_clearing(storage, mine)
    raise errors.ConfigurationError(Reason.OUTPUT_CONFLICT, _conflict(storage, found, mine))


def require(storage: Storage, uid: str) -> RunIdentity:
    """Return the identity of the run that a job has planned here.

    Raises:
        RetryLaterError: nothing has been planned yet.
        ConfigurationError: OutputConflict, the output belongs to another job by now.
    """
    identity = load(storage)
    if identity is None:
        raise errors.RetryLaterError(
            Reason.RUNNER_FAILED, f"{storage.uri} holds no run yet; plan runs first"
        )
    if not _is_owner(storage, identity, uid):
        raise errors.ConfigurationError(
            Reason.OUTPUT_CONFLICT,
            f"output.uri {storage.uri} belongs to the job {identity.job!r} (uid "
            f"{identity.run_id}) by now, which has overwritten this job's run",
        )
    return identity


def _is_owner(storage: Storage, identity: RunIdentity, uid: str) -> bool:
    if identity.run_id == uid:
        return True
    return storage.exists(layout.RunLayout(identity.run_id).owner(uid))


def _has_nothing(storage: Storage, identity: RunIdentity) -> bool:
    """Return whether a run holds no answer and no row: nothing that was paid for."""
    if any(storage.exists(name) for name in (layout.MANIFEST, layout.SUCCESS)):
        return False
    if any(storage.list_files(folder) for folder in (layout.DATA, layout.ERRORS)):
        return False
    files = storage.list_files(layout.RunLayout(identity.run_id).shards)
    return all("/claims/" in file.path or "/leases/" in file.path for file in files)


def load(storage: Storage) -> RunIdentity | None:
    """Return the identity of the run in a storage, if there is one."""
    try:
        data = storage.read(layout.RUN)
    except FileNotFoundError:
        return None
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as exc:
        raise errors.ConfigurationError(
            Reason.OUTPUT_CONFLICT,
            f"{storage.uri}/{layout.RUN} is not a kubesynth run ({exc}); use another output.uri",
        ) from exc


def _refuse_foreign_files(storage: Storage) -> None:
    for folder in (layout.DATA, layout.ERRORS, layout.INTERNAL):
        files = storage.list_files(folder)
        if files:
            raise errors.ConfigurationError(
                Reason.OUTPUT_CONFLICT,
                f"output.uri {storage.uri} holds {files[0].path} but no {layout.RUN}: it is not a "
                "kubesynth run; use an empty folder, or output.ifExists: Overwrite",
            )


def _finish_clearing(storage: Storage, identity: RunIdentity) -> RunIdentity:
    """Delete what other runs have left, if an Overwrite was begun and not finished.

    What this run has made itself is spared: another process may have got further already.
    """
    if not identity.clearing:
        return identity
    own = layout.RunLayout(identity.run_id)
    inner = [file.path for file in storage.list_files(layout.INTERNAL)]
    folders = sorted({"/".join(path.split("/")[:2]) for path in inner} - {own.folder})
    outer = (*storage.list_files(layout.DATA), *storage.list_files(layout.ERRORS))
    parts = [file.path for file in outer if not own.is_part(file.path)]
    # Nothing that was seen before this can be a file of a job that overwrites the output after us.
    _refuse_overwritten(storage, identity)
    for path in (layout.SUCCESS, layout.MANIFEST, layout.REPORT, *folders, *parts):
        storage.delete(path)
    _refuse_overwritten(storage, identity)
    ready = msgspec.structs.replace(identity, clearing=False)
    storage.put(layout.RUN, msgspec.json.encode(ready))
    return ready


def _refuse_overwritten(storage: Storage, identity: RunIdentity) -> None:
    if load(storage) != identity:
        raise errors.FencedError(f"{storage.uri}: another job has begun to overwrite it")


def _conflict(storage: Storage, found: RunIdentity, mine: RunIdentity) -> str:
    whose = f"output.uri {storage.uri} holds a run of the job {found.job!r} (uid {found.run_id})"
    if found.pipeline_hash == mine.pipeline_hash and not found.clearing:
        return (
            f"{whose}; use another output.uri, or output.ifExists: Resume to go on with it, or "
            "Overwrite to delete it"
        )
    what_to_do = "use another output.uri, or output.ifExists: Overwrite to delete it"
    if not found.content and not found.clearing:
        return (
            f"{whose}, begun by an older version of kubesynth, with another pipeline, model, input "
            "or seed, or with models at other addresses, so it cannot be resumed; to go on with "
            "it, use output.ifExists: Resume with the spec that it was begun with, url, apiKey and "
            f"headers included; otherwise {what_to_do}"
        )
    return (
        f"{whose} with {_differences(found.content, mine.content)}, so it cannot be resumed; "
        f"{what_to_do}"
    )


def _differences(theirs: Mapping[str, str], mine: Mapping[str, str]) -> str:
    """Name the fields that differ, where both runs have noted them."""
    fields = sorted(key for key in {*theirs, *mine} if theirs.get(key) != mine.get(key))
    if not theirs or not mine or not fields:
        return "another pipeline, model, input or seed"
    more = f" and {len(fields) - _MAX_NAMED} more" if len(fields) > _MAX_NAMED else ""
    return f"another {', '.join(fields[:_MAX_NAMED])}{more}"
