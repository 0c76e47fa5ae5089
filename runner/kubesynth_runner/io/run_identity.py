"""Whose output a folder is: `run.json`, created once, settles Fail, Resume and Overwrite."""

from __future__ import annotations

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

    `run_id` is the uid of the job that began the run; a job that resumes it keeps it and adds its
    own uid to `owners`, so that its later pods know the run as theirs.
    """

    run_id: str
    owners: tuple[str, ...]
    pipeline_hash: str
    job: str
    version: str = VERSION
    # True while an Overwrite has announced itself but not finished deleting.
    clearing: bool = False


def acquire(
    storage: Storage, *, uid: str, job: str, pipeline_hash: str, if_exists: IfExists
) -> RunIdentity:
    """Make the output ours, or say whose it is. Safe to repeat, also after a crash.

    Raises:
        ConfigurationError: OutputConflict, the folder holds a run that this job may not touch.
    """
    mine = RunIdentity(uid, (uid,), pipeline_hash, job)
    if not storage.exists(layout.RUN):
        _refuse_foreign_files(storage, if_exists)
        if storage.create(layout.RUN, msgspec.json.encode(mine)):
            return mine
    found = load(storage)
    if found is None:
        raise errors.RetryLaterError(
            Reason.OUTPUT_UNWRITABLE, f"{storage.uri}/{layout.RUN} vanished while it was read"
        )
    if uid in found.owners:
        return _finish_clearing(storage, found)
    match if_exists:
        case "Resume" if found.pipeline_hash == pipeline_hash and not found.clearing:
            adopted = msgspec.structs.replace(found, owners=(*found.owners[-15:], uid))
            storage.put(layout.RUN, msgspec.json.encode(adopted))
            return adopted
        case "Overwrite":
            announced = msgspec.structs.replace(mine, clearing=True)
            storage.put(layout.RUN, msgspec.json.encode(announced))
            return _finish_clearing(storage, announced)
    raise errors.ConfigurationError(Reason.OUTPUT_CONFLICT, _conflict(storage, found, if_exists))


def load(storage: Storage) -> RunIdentity | None:
    """Return the identity of the run in a storage, if there is one."""
    try:
        data = storage.read(layout.RUN)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=RunIdentity)
    except msgspec.MsgspecError as exc:
        raise errors.ConfigurationError(
            Reason.OUTPUT_CONFLICT,
            f"{storage.uri}/{layout.RUN} is not a kubesynth run ({exc}); use another output.uri",
        ) from exc


def _refuse_foreign_files(storage: Storage, if_exists: IfExists) -> None:
    if if_exists == "Overwrite":
        return
    for folder in (layout.DATA, layout.ERRORS, layout.INTERNAL):
        files = storage.list_files(folder)
        if files:
            raise errors.ConfigurationError(
                Reason.OUTPUT_CONFLICT,
                f"output.uri {storage.uri} holds {files[0].path} but no {layout.RUN}: it is not a "
                "kubesynth run; use an empty folder, or output.ifExists: Overwrite",
            )


def _finish_clearing(storage: Storage, identity: RunIdentity) -> RunIdentity:
    """Delete what the overwritten run left, if an Overwrite was begun and not finished."""
    if not identity.clearing:
        return identity
    for name in (
        layout.SUCCESS,
        layout.MANIFEST,
        layout.REPORT,
        layout.INTERNAL,
        layout.DATA,
        layout.ERRORS,
    ):
        storage.delete(name)
    ready = msgspec.structs.replace(identity, clearing=False)
    storage.put(layout.RUN, msgspec.json.encode(ready))
    return ready


def _conflict(storage: Storage, found: RunIdentity, if_exists: IfExists) -> str:
    whose = f"output.uri {storage.uri} holds a run of the job {found.job!r} (uid {found.run_id})"
    if if_exists == "Resume":
        return (
            f"{whose} with another pipeline, input or seed, so it cannot be resumed; use another "
            "output.uri, or output.ifExists: Overwrite to delete it"
        )
    return (
        f"{whose}; use another output.uri, or output.ifExists: Resume to go on with it, or "
        "Overwrite to delete it"
    )
