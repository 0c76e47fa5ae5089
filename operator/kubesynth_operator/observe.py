"""One consistent look at a job, from the API server and the watches' snapshots.

The job itself is always read afresh: a decision on an old status could repeat what was done. Its
children come from the watches. Some things are read on demand: what the spec refers to (the
operator may not watch Secrets); of a job without shards, whether it has had any; a Job that the
status speaks of and the watch has not brought yet; and the pods of a Job that has ended but whose
last words have not come through the watch yet, so that "the pod is gone" is a fact and not a race.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from kubesynth_api.conditions import ConditionType, Reason
from kubesynth_api.labels import JOB_UID_LABEL
from kubesynth_api.references import references
from kubesynth_api.runner_contract import InitialShare, RunnerPhase
from kubesynth_operator import assess, status, wire
from kubesynth_operator.child_cache import ChildCache
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient, Object
from kubesynth_operator.kube.resources import (
    CLAIMS,
    CONFIG_MAPS,
    JOBS,
    PODS,
    SECRETS,
    SYNTHETIC_DATA_JOBS,
)
from kubesynth_operator.observation import (
    ENDS_OF_SHARDS,
    ChildJob,
    Job,
    JobKey,
    LeaseView,
    Observation,
    Obstacle,
    ObstacleKind,
    Pod,
    Progress,
    ReferenceKind,
    Referent,
    Referents,
)
from kubesynth_operator.policies import podless
from kubesynth_operator.progress_book import ProgressBook
from kubesynth_operator.resources import naming
from kubesynth_operator.servers import views
from kubesynth_operator.servers.catalog import Catalog

_RESOURCES = {
    ReferenceKind.SECRET: SECRETS,
    ReferenceKind.CONFIG_MAP: CONFIG_MAPS,
    ReferenceKind.CLAIM: CLAIMS,
}

# Whose Job is there, or was, while this is the reason of Running.
_SPOKEN_OF: Mapping[str, RunnerPhase] = {
    Reason.PLANNING: RunnerPhase.PLAN,
    Reason.SHARDS_ACTIVE: RunnerPhase.GENERATE,
    Reason.FINALIZING: RunnerPhase.FINALIZE,
    **dict.fromkeys(ENDS_OF_SHARDS, RunnerPhase.GENERATE),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshots:
    """What the watches and the poller keep current."""

    jobs: ChildCache[ChildJob]
    pods: ChildCache[Pod]
    book: ProgressBook
    catalog: Catalog
    leases: Callable[[str], LeaseView | None] = lambda job_uid: None


class Observer:
    """Builds observations. Holds nothing but short memories of references and of missing pods."""

    def __init__(
        self,
        client: KubeClient,
        snapshots: Snapshots,
        clock: Callable[[], datetime],
        *,
        referent_age: timedelta,
    ) -> None:
        """Remember for `referent_age` what a job refers to, however often it is looked at."""
        self._client = client
        self._snapshots = snapshots
        self._clock = clock
        self._referent_age = referent_age
        self._referents: dict[tuple[str, ReferenceKind, str], tuple[datetime, Referent]] = {}
        self._podless: dict[JobKey, dict[str, datetime]] = {}

    async def observe(self, key: JobKey) -> Observation | None:
        """Look at a job; None if there is none of that name.

        Raises:
            KubeError: something could not be read.
        """
        try:
            job = wire.parse_job(await self._client.get(SYNTHETIC_DATA_JOBS, *key))
        except errors.NotFoundError:
            self._podless.pop(key, None)
            return None
        found = self._snapshots.jobs.of_job(key)
        own = {child.phase: child for child in found if child.owner_uid == job.uid}
        observation = Observation(
            now=self._clock(),
            job=job,
            children=own,
            pods=tuple(pod for pod in self._snapshots.pods.of_job(key) if pod.job_uid == job.uid),
            live=self._snapshots.book.live(job.uid),
            servers=views.of_job(self._snapshots.catalog, job),
            leases=self._snapshots.leases(job.uid),
            obstacles=tuple(_leftover(child) for child in found if child.owner_uid != job.uid),
        )
        if job.spec is None or job.deleting or status.has_ended(job.status):
            return observation
        own |= await self._not_seen_yet(observation)
        observation = dataclasses.replace(observation, children=own)
        if lacks_last_words(observation):
            pods = await self._list_pods(job)
            observation = dataclasses.replace(observation, pods=pods)
        if RunnerPhase.GENERATE not in own:
            is_there, share = await self._look_for_lease_secret(job)
            observation = dataclasses.replace(
                observation,
                referents=await self._look_up(job),
                has_lease_secret=is_there,
                first_share=share,
            )
        elif assess.wants_more_shards(observation):
            claims = await self._look_up(job, only=frozenset({ReferenceKind.CLAIM}))
            observation = dataclasses.replace(observation, referents=claims)
        return dataclasses.replace(observation, podless_since=self._without_pods(observation))

    async def _not_seen_yet(self, observation: Observation) -> dict[RunnerPhase, ChildJob]:
        """Return the Job that the status speaks of, if the watch has not brought it yet.

        Taken for missing, shards that a deadline is to stop would go on beside finalize, and those
        that finalize has been made for would be started again.
        """
        job = observation.job
        running = status.find(job.status, ConditionType.RUNNING)
        phase = _SPOKEN_OF.get(running.reason) if running is not None else None
        if phase is None or phase in observation.children:
            return {}
        try:
            raw = await self._client.get(
                JOBS, job.key.namespace, naming.job_name(job.key.name, phase)
            )
        except errors.NotFoundError:
            return {}
        child = wire.parse_child_job(raw)
        if child is None or child.phase is not phase or child.owner_uid != job.uid:
            return {}
        return {phase: child}

    def _without_pods(self, observation: Observation) -> dict[RunnerPhase, datetime]:
        """Return which Jobs have no pods although they may, and since when that was seen."""
        key = observation.job.key
        before, now = self._podless.pop(key, {}), observation.now
        since = {
            phase: before.get(child.uid, now)
            for phase, child in observation.children.items()
            if podless.lacks_pods(child, observation.pods_of(phase))
        }
        if since:
            self._podless[key] = {
                observation.children[phase].uid: moment for phase, moment in since.items()
            }
        return since

    async def _list_pods(self, job: Job) -> tuple[Pod, ...]:
        selector = f"{JOB_UID_LABEL}={job.uid}"
        pods = [
            wire.parse_pod(raw)
            async for raw in self._client.list_all(
                PODS, job.key.namespace, selector=selector, page_size=500
            )
        ]
        return tuple(pod for pod in pods if pod is not None)

    async def _look_for_lease_secret(self, job: Job) -> tuple[bool, InitialShare | None]:
        """Tell whether the job's own Secret to lease with is there, or may be; and what it says."""
        name = naming.lease_secret_name(job.key.name)
        try:
            raw = await self._client.get(SECRETS, job.key.namespace, name)
        except errors.NotFoundError:
            return False, None
        except errors.ForbiddenError:
            return True, None
        if wire.controller_uid(raw) != job.uid:
            return False, None
        return True, wire.parse_first_share(raw)

    async def _look_up(
        self, job: Job, only: frozenset[ReferenceKind] = frozenset(ReferenceKind)
    ) -> Referents:
        if job.spec is None:
            return {}
        found = references(job.spec)
        wanted = [(ReferenceKind.SECRET, item.name) for item in found.secrets]
        wanted += [(ReferenceKind.CONFIG_MAP, item.name) for item in found.config_maps]
        wanted += [(ReferenceKind.CLAIM, item.name) for item in found.claims]
        return {
            (kind, name): await self._referent(job.key.namespace, kind, name)
            for kind, name in dict.fromkeys(wanted)
            if kind in only
        }

    async def _referent(self, namespace: str, kind: ReferenceKind, name: str) -> Referent:
        now = self._clock()
        known = self._referents.get((namespace, kind, name))
        if known is not None and known[1].exists and now - known[0] < self._referent_age:
            return known[1]
        try:
            raw = await self._client.get(_RESOURCES[kind], namespace, name)
            referent = _describe(kind, raw)
        except errors.NotFoundError:
            referent = Referent(exists=False)
        except errors.ForbiddenError:
            referent = Referent(exists=False, denied=True)
        self._referents = {
            each: entry
            for each, entry in self._referents.items()
            if now - entry[0] < self._referent_age
        }
        self._referents[namespace, kind, name] = (now, referent)
        return referent


def _describe(kind: ReferenceKind, raw: Object) -> Referent:
    """Keep what decisions need; the values of a Secret are dropped at once."""
    data = raw.get("data") or {}
    keys = {*data, *(raw.get("binaryData") or ())}
    modes = (raw.get("spec") or {}).get("accessModes") or ()
    return Referent(
        exists=True,
        keys=frozenset(keys),
        access_modes=tuple(modes),
        data=data if kind is ReferenceKind.CONFIG_MAP else {},
    )


def _leftover(child: ChildJob) -> Obstacle:
    """A Job of ours under another owner's uid: of a job that was deleted and applied again.

    Nothing collects one that was orphaned at that, and its pods may still write to the output.
    """
    if not child.owner_uid:
        return Obstacle(
            ObstacleKind.STRANGER,
            f"Job {child.name!r} of an earlier job of this name belongs to nobody; delete it.",
        )
    return Obstacle(
        ObstacleKind.PREDECESSOR,
        f"Job {child.name!r} of an earlier job of this name is still being deleted.",
    )


def lacks_last_words(observation: Observation) -> bool:
    """Tell whether a Job has ended and what its pods said at the end has not been seen.

    Only for the Job whose words decide something now.
    """
    children, spec = observation.children, observation.spec
    if spec.shards.count == 1 or RunnerPhase.FINALIZE in children:
        last = RunnerPhase.GENERATE if spec.shards.count == 1 else RunnerPhase.FINALIZE
        ended = [children.get(phase) for phase in (last, RunnerPhase.REPORT)]
        return any(_is_silent(observation, child) for child in ended) and (
            assess.run_totals(observation) is None
        )
    current = children.get(RunnerPhase.GENERATE) or children.get(RunnerPhase.PLAN)
    return _is_silent(observation, current)


def _is_silent(observation: Observation, child: ChildJob | None) -> bool:
    if child is None or not child.finished:
        return False
    wanted = "Succeeded" if child.progress is Progress.COMPLETE else "Failed"
    if wanted == "Succeeded" and child.phase is RunnerPhase.GENERATE and child.completions > 1:
        return False
    return not any(
        pod.status == wanted and pod.message is not None for pod in observation.pods_of(child.phase)
    )
