"""What every phase needs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping

from kubesynth_api.run_spec import RunSpec
from kubesynth_api.runner_contract import InitialShare
from kubesynth_api.shares import initial_share, whole_share
from kubesynth_api.v1alpha1.spending import Price
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.progress import Progress


@dataclasses.dataclass(frozen=True, slots=True)
class RunContext:
    """One run as one process sees it. `stop` is set when the process should end soon.

    `share` is what this process may use of the job's limits at first; without it, what the spec
    gives each pod. `alone` says that this process does the whole run, so that nobody leases it
    anything and nobody else draws on its limits.
    """

    spec: RunSpec
    environment: RunEnvironment
    storage: Storage
    progress: Progress
    stop: asyncio.Event
    share: InitialShare | None = None
    alone: bool = False

    @property
    def first_share(self) -> InitialShare:
        """What this process may use of the job's limits at first."""
        if self.share is not None:
            return self.share
        spec = self.spec.spec
        return whole_share(spec) if self.alone else initial_share(spec)

    @property
    def ends_itself(self) -> bool:
        """Whether a spent budget or a reached target ends this process, as nobody has more."""
        return self.alone or self.spec.spec.shards.count == 1

    @property
    def prices(self) -> Mapping[str, Price]:
        """Prices by model role; empty if there are none."""
        budget = self.spec.spec.budget
        return budget.prices if budget else {}
