"""A model as the engine uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from kubesynth_runner.engine.gate import Gate
from kubesynth_runner.llm.base import ChatClient
from kubesynth_runner.llm.batches import BatchApi


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConnection:
    """A model behind its gate: one per role, shared by all stages."""

    role: str
    model: str
    client: ChatClient
    gate: Gate
    json_schema: bool
    max_attempts: int
    # An outage longer than this ends the process; its work is taken up again later.
    outage_limit_seconds: float
    extra_body: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    # Place of the model in the spec, and whether tokens are counted by model.
    place: int = 0
    has_price: bool = False
    # Requests that the server takes at once, whatever is leased; None for any number.
    most_slots: int | None = None
    # Where the run's calls are carried out in batches.
    batches: BatchApi | None = None
    # Whether the server's strict mode takes schemas that bound lists and numbers.
    schema_bounds: bool = True
    # Whether its grammars for texts of a length are good ones.
    schema_lengths: bool = False
