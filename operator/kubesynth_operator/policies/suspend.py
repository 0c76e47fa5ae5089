"""`suspend` and `shards.parallelism`: what the existing Jobs should look like now.

These two fields are all that is ever changed on a Job. A Job that carries a queue label belongs to
its queue, which alone sets `suspend`; to stop one of those its quota has to be given back, so it is
deleted and created again on resume. Shards that are done find their manifests and end at once.

No Job is created suspended but for a queue. One without a queue that was stored suspended is held
by somebody (Kueue, where it manages Jobs without a queue's name), and left as it is: it would be
suspended again at once, and so on for ever.
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


def is_held(child: ChildJob) -> bool:
    """Tell whether somebody else has suspended this Job while it was created."""
    return child.suspended and child.untouched and not child.queued and not child.finished


def let_run(child: ChildJob | None, parallelism: int) -> tuple[Action, ...]:
    """Return what lets this Job run, with so many pods at once if it is generate."""
    if child is None or child.finished or child.deleting or is_held(child):
        return ()
    actions: list[Action] = []
    wanted = min(parallelism, child.completions)
    if child.phase is RunnerPhase.GENERATE and child.parallelism != wanted:
        actions.append(PatchJob(child.name, child.uid, "parallelism", wanted))
    if child.suspended and not child.queued:
        actions.append(PatchJob(child.name, child.uid, "suspend", False))
    return tuple(actions)
