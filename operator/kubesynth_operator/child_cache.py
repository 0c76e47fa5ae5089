"""The children of all jobs as the watches last saw them: small values, found by their job.

A snapshot may lag behind our own writes. That is harmless by design: names are derived, so that
creating again what is there already changes nothing, and what a decision must not get wrong is read
afresh (`observe`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    def of_job(self, key: JobKey) -> tuple[ChildT, ...]:
        """Return the children of the jobs of that name, by uid or not, ordered by name."""
        children = self._children.get(key, {})
        return tuple(children[name] for name in sorted(children))

    def all(self) -> Iterator[tuple[JobKey, ChildT]]:
        """Yield every child with the key of its job."""
        for key, children in self._children.items():
            for child in children.values():
                yield key, child

    def replace(self, namespace: str | None, objects: list[dict[str, Any]]) -> None:
        """Take `objects` as all that there is, and forget what is not among them."""
        present = {(self._key(raw), str(raw["metadata"]["name"])) for raw in objects}
        for key in list(self._children):
            if namespace is not None and key.namespace != namespace:
                continue
            for name in [name for name in self._children[key] if (key, name) not in present]:
                self._forget(key, name)
        for raw in objects:
            self.upsert(raw)

    def upsert(self, raw: dict[str, Any]) -> None:
        """Take a new or changed child."""
        key, child = self._key(raw), self._parse(raw)
        if child is None:
            return
        children = self._children.setdefault(key, {})
        before = children.get(child.name)
        children[child.name] = child
        if before != child:
            self._seen(child)
            self._changed(key)

    def delete(self, raw: dict[str, Any]) -> None:
        """Forget a child."""
        self._forget(self._key(raw), raw["metadata"]["name"])

    def _forget(self, key: JobKey, name: str) -> None:
        children = self._children.get(key, {})
        if children.pop(name, None) is None:
            return
        if not children:
            del self._children[key]
        self._changed(key)

    def _key(self, raw: dict[str, Any]) -> JobKey:
        metadata = raw["metadata"]
        name = (metadata.get("labels") or {}).get(self._owner_label, "")
        return JobKey(metadata["namespace"], name)
