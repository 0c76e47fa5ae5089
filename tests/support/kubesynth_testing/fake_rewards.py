"""Fake reward models: the wire protocols of NVIDIA's and of vLLM's, and numbers that mean nothing.

The real ones need GPUs. Scores are drawn from the request body: equal conversations score equally.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from aiohttp import web

from kubesynth_testing.fake_llm import MODEL, FakeLlm

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


class FakeScores(FakeLlm):
    """A server with vLLM's /score, /pooling and /classify, too.

    Its answers have the shape of those that vLLM 0.24 was recorded with: tests/data/engines.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received: Counter[str] = Counter()
        self._runner.app.add_routes(
            [web.post(path, self._on_request) for path in ("/score", "/pooling", "/classify")]
        )

    async def _on_request(self, request: web.Request) -> web.Response:
        body = await request.json()
        fields = {"text_1", "text_2"} if request.path == "/score" else {"messages"}
        if set(body) != {"model", *fields} or body["model"] != MODEL:
            return web.json_response(
                {"error": {"message": "wrong fields", "code": 400}}, status=400
            )
        key = json.dumps(body, sort_keys=True)
        self.received[key] += 1
        value = random.Random(key).uniform(-5, 5)
        return web.json_response(self.reply(request.path, value))

    @staticmethod
    def reply(path: str, value: float) -> dict[str, Any]:
        """Return the answer of an API that gives a number."""
        entry: dict[str, Any] = {"index": 0, "object": "score", "score": value}
        if path == "/pooling":
            entry = {"index": 0, "object": "pooling", "data": [value]}
        if path == "/classify":
            entry = {"index": 0, "label": "LABEL_0", "probs": [value], "num_classes": 1}
        return {
            "id": "x",
            "object": "list",
            "created": 1,
            "model": MODEL,
            "data": [entry],
            "usage": {
                "prompt_tokens": 9,
                "total_tokens": 9,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
        }
