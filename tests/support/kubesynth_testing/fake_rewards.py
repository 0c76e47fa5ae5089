"""A fake reward model: the wire protocol of NVIDIA's, and numbers that mean nothing.

The real ones need GPUs. Scores are drawn from the request body: equal conversations score equally.
"""

from __future__ import annotations

import random
from typing import Any

from aiohttp import web

from kubesynth_testing.fake_llm import FakeLlm

ATTRIBUTES = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


class FakeRewards(FakeLlm):
    """Answers conversations that end with the assistant with attributes, and refuses others."""

    def _bad_request(self, body: dict[str, Any], prompt_tokens: int) -> web.Response | None:
        if body["messages"][-1]["role"] != "assistant":
            error = {"message": "the last message must be the assistant's", "code": 400}
            return web.json_response({"error": error}, status=400)
        return super()._bad_request(body, prompt_tokens)

    async def _deliver(
        self, request: web.Request, key: str, reply: dict[str, Any], fault: str | None
    ) -> web.StreamResponse:
        draw = random.Random(key)
        scores = {name: round(draw.uniform(0, 4), 7) for name in ATTRIBUTES}
        content = ",".join(f"{name}:{score}" for name, score in scores.items())
        tokens = [{"token": n, "logprob": s, "top_logprobs": []} for n, s in scores.items()]
        choice = reply["choices"][0]
        choice["message"]["content"] = content
        choice["logprobs"] = {"content": tokens}
        choice["finish_reason"] = "length"
        return await super()._deliver(request, key, reply, fault)
