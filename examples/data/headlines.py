"""A plugin: headlines for a text, the shortest first. See docs/stages.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import pydantic

from kubesynth_runner.plugin_api import Model, Reject, StagePlugin


class Parameters(pydantic.BaseModel):
    """What the manifest may set."""

    model_config = pydantic.ConfigDict(extra="forbid")

    count: int = pydantic.Field(default=3, ge=1, le=20)
    tone: str = "sober"


class Headlines(StagePlugin):
    """Asks for headlines, and makes a record of each."""

    parameters_model = Parameters
    needs = ("text",)
    adds: ClassVar = {"headline": "string", "characters": "integer"}
    prompts: ClassVar = {
        "write": "Write {{ count }} {{ tone }} headlines for this text:\n\n{{ text }}\n\n"
        "Give one per line, as a numbered list of {{ count }} items, and nothing else."
    }

    async def run(self, row: Mapping[str, Any], model: Model) -> AsyncIterator[dict[str, Any]]:
        """Yield a child for each headline."""
        if not row["text"]:
            raise Reject("there is no text")
        parameters = self.parameters
        found = await model.items(
            "write", row, count=parameters.count, item_form="Titles", tone=parameters.tone
        )
        for headline in sorted(found, key=len):
            yield {"headline": headline, "characters": len(headline)}
