"""The fake server, which also remembers which request was about what and how it was answered."""

from __future__ import annotations

import json
import re
from typing import Any

from aiohttp import web

from kubesynth_testing.fake_llm import FakeLlm
from kubesynth_testing.fake_replies import body_hash

_DOCUMENT = re.compile(r"Document (\d+) ")


class RecordingLlm(FakeLlm):
    """Keeps, by hash of the request's body, the document asked about and the text answered."""

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, int] = {}
        self.texts: dict[str, str] = {}

    async def _answer(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        body = json.loads(raw)
        found = _DOCUMENT.search(body["messages"][-1]["content"])
        if found:  # not the probe
            self.documents[body_hash(body)] = int(found[1])
        return await super()._answer(request, raw)

    async def _deliver(
        self, request: web.Request, key: str, reply: dict[str, Any], fault: str | None
    ) -> web.StreamResponse:
        self.texts[key] = reply["choices"][0]["message"]["content"]
        return await super()._deliver(request, key, reply, fault)
