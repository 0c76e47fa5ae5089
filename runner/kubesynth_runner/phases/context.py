"""What every phase needs."""

from __future__ import annotations

import asyncio
import dataclasses

from kubesynth_api.run_spec import RunSpec
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.io.storage import Storage
from kubesynth_runner.progress import Progress


@dataclasses.dataclass(frozen=True, slots=True)
class RunContext:
    """One run as one process sees it. `stop` is set when the process should end soon."""

    spec: RunSpec
    environment: RunEnvironment
    storage: Storage
    progress: Progress
    stop: asyncio.Event
