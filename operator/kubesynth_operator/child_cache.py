"""The children of all jobs as the watches last saw them: small values, found by their job.

A snapshot may lag behind our own writes. That is harmless by design: names are derived, so that
creating again what is there already changes nothing, and what a decision must not get wrong is read
afresh (`observe`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from typing import Any, Generic, Protocol, TypeVar

from kubesynth_api.labels import JOB_NAME_LABEL
from kubesynth_operator.observation import JobKey


class _Child(Protocol):
    @property
    def name(self) -> str: ...


ChildT = TypeVar("ChildT", bound=_Child)


class ChildCache(Generic[ChildT]):
    """A sink for watches of one kind.

    Args:
        parse: Reduces an object to what is kept; None for one that is none of ours.
        changed: Told the job whose children changed, once the cache has the new state.
        seen: Told every object that came in, for what is kept elsewhere.
        owner_label: The label with the owner's name.
    """

    def __init__(
        self,
        parse: Callable[[dict[str, Any]], ChildT | None],
        changed: Callable[[JobKey], None],
        seen: Callable[[ChildT], None] = lambda child: None,
        *,
        owner_label: str = JOB_NAME_LABEL,
    ) -> None:
        self._parse = parse
        self._changed = changed
        self._seen = seen
        self._owner_label = owner_label
        self._children: dict[JobKey, dict[str, ChildT]] = {}
        # Whose child an object is; its labels may have changed since.
        self._owners: dict[tuple[str, str], JobKey] = {}

    def of_job(self, key: JobKey) -> tuple[ChildT, ...]:
        """Return the children of the jobs of that name, by uid or not, ordered by name."""
        children = self._children.get(key, {})
        return tuple(children[name] for name in sorted(children))

    def all(self) -> Iterator[tuple[JobKey, ChildT]]:
        """Yield every child with the key of its job."""
        for key, children in self._children.items():
            for child in children.values():
                yield key, child

    def keep(self, namespace: str | None, names: Set[tuple[str, str]]) -> None:
        """Forget all children in a namespace (None: in the cluster) but these."""
        for place in [place for place in self._owners if place not in names]:
            if namespace in (None, place[0]):
                self._forget(place)

    def upsert(self, raw: dict[str, Any]) -> None:
        """Take a new or changed child."""
        child, place = self._parse(raw), _place(raw)
        key = JobKey(place[0], (raw["metadata"].get("labels") or {}).get(self._owner_label, ""))
        if child is None or self._owners.get(place, key) != key:
            self._forget(place)
        if child is None:
            return
        self._owners[place] = key
        children = self._children.setdefault(key, {})
        before = children.get(child.name)
        children[child.name] = child
        if before != child:
            self._changed(key)
            self._seen(child)

    def delete(self, raw: dict[str, Any]) -> None:
        """Forget a child."""
        self._forget(_place(raw))

    def _forget(self, place: tuple[str, str]) -> None:
        key = self._owners.pop(place, None)
        if key is None:
            return
        children = self._children[key]
        del children[place[1]]
        if not children:
            del self._children[key]
        self._changed(key)


def _place(raw: dict[str, Any]) -> tuple[str, str]:
    metadata = raw["metadata"]
    return str(metadata["namespace"]), str(metadata["name"])
