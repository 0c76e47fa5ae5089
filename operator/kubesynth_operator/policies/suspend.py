"""`suspend` and `shards.parallelism`: what the existing Jobs should look like now.

These two fields are all that is ever changed on a Job. A Job that carries a queue label belongs to
its queue, which alone sets `suspend`; to stop one of those its quota has to be given back, so it is
deleted and created again on resume. Shards that are done find their manifests and end at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from kubesynth_api.runner_contract import RunnerPhase
from kubesynth_operator.actions import Action, DeleteJob, PatchJob
from kubesynth_operator.observation import ChildJob


def stop(children: Iterable[ChildJob]) -> tuple[Action, ...]:
    """Return what stops every pod of these Jobs, with checkpoints (SIGTERM) and no failure."""
    actions: list[Action] = []
    for child in children:
        if child.finished or child.deleting:
            continue
        if child.queued:
            actions.append(DeleteJob(child.name, child.uid))
        elif not child.suspended:
            actions.append(PatchJob(child.name, child.uid, "suspend", True))
    return tuple(actions)


def let_run(child: ChildJob | None, parallelism: int) -> tuple[Action, ...]:
    """Return what lets this Job run, with so many pods at once if it is generate."""
    if child is None or child.finished or child.deleting:
        return ()
    actions: list[Action] = []
    wanted = min(parallelism, child.completions)
    if child.phase is RunnerPhase.GENERATE and child.parallelism != wanted:
        actions.append(PatchJob(child.name, child.uid, "parallelism", wanted))
    if child.suspended and not child.queued:
        actions.append(PatchJob(child.name, child.uid, "suspend", False))
    return tuple(actions)
