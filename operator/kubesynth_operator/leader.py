"""Leader election over a Lease: of several replicas one works, the others stand by.

The algorithm of client-go's leaderelection: a Lease is trusted for its duration counted from when
*we* saw it change, so that no two clocks are ever compared; writes carry the resourceVersion, so
that of two that try at once one loses. A leader that cannot renew in time stops at once, well
before anybody else may take over: its time runs from before it asked, whenever the answer came. On
a clean end the Lease is given back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubesynth_operator.kube import errors
from kubesynth_operator.kube.client import KubeClient, Object
from kubesynth_operator.kube.resources import LEASES

_logger = logging.getLogger(__name__)

# client-go's defaults: the leader gives up 5 s before another may begin.
LEASE_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0
_RELEASE_SECONDS = 5.0


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time: this process must not write any more."""


class Elector:
    """One replica's part in the election over the Lease `namespace`/`name`."""

    def __init__(
        self,
        client: KubeClient,
        lease: tuple[str, str],
        identity: str,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._namespace, self._name = lease
        self._identity = identity
        self._clock = clock
        # Whether somebody else led when this process last asked, and so there is nothing to do.
        self.stands_by = False
        self._seen: tuple[str, float] = ("", 0.0)
        # When the last request that has renewed the Lease was begun.
        self._renewed_at = -math.inf

    async def acquire(self) -> None:
        """Return when this process is the leader."""
        while not await self._try_for(RENEW_DEADLINE_SECONDS):
            await asyncio.sleep(RETRY_SECONDS * random.uniform(1.0, 1.2))
        _logger.info("leading", extra={"identity": self._identity})

    async def hold(self) -> None:
        """Renew the Lease until cancelled.

        Raises:
            LeadershipLostError: it could not be renewed in time.
        """
        while (left := self._renewed_at + RENEW_DEADLINE_SECONDS - self._clock()) > 0:
            again_at = self._clock() + RETRY_SECONDS
            await self._try_for(left)
            # After an answer that was slow in coming there is no time to lose.
            next_at = min(again_at, self._renewed_at + RENEW_DEADLINE_SECONDS)
            await asyncio.sleep(max(0.0, next_at - self._clock()))
        raise LeadershipLostError(f"{self._identity} could not renew its Lease")

    async def release(self) -> None:
        """Give the Lease back, so that the next leader need not wait. Never fails."""
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                lease = await self._client.get(LEASES, self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"].update(holderIdentity="", leaseDurationSeconds=1)
                    await self._client.replace(LEASES, self._namespace, lease)
        except errors.NotFoundError:
            pass
        except (errors.KubeError, TimeoutError) as exc:
            _logger.warning("lease not released", extra={"error": str(exc)})

    async def _try_for(self, seconds: float) -> bool:
        """Try once, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                return await self.try_once()
        except TimeoutError:
            self.stands_by = False
            _logger.warning("lease not taken", extra={"error": f"no answer in {seconds:.1f} s"})
            return False

    async def try_once(self) -> bool:
        """Take or renew the Lease; False if somebody else has it, or nobody can be asked."""
        began = self._clock()
        try:
            if not await self._take():
                return False
        except (errors.ConflictError, errors.AlreadyExistsError):
            return False
        except errors.KubeError as exc:
            self.stands_by = False
            _logger.warning("lease not taken", extra={"error": str(exc)})
            return False
        self._renewed_at = began
        return True

    async def _take(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name)
        except errors.NotFoundError:
            await self._client.create(LEASES, self._namespace, self._new_lease())
            return True
        spec: dict[str, Any] = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        self.stands_by = holder not in ("", self._identity) and not self._has_expired(lease, spec)
        if self.stands_by:
            return False
        if holder != self._identity:
            spec["acquireTime"] = _now()
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec.update(
            holderIdentity=self._identity, leaseDurationSeconds=LEASE_SECONDS, renewTime=_now()
        )
        await self._client.replace(LEASES, self._namespace, {**lease, "spec": spec})
        return True

    def _has_expired(self, lease: Object, spec: dict[str, Any]) -> bool:
        version, now = str(lease["metadata"]["resourceVersion"]), self._clock()
        if version != self._seen[0]:
            self._seen = (version, now)
        return now - self._seen[1] > float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def _new_lease(self) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": _now(),
                "renewTime": _now(),
                "leaseTransitions": 0,
            },
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
