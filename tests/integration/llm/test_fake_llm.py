"""The stand-in for a hosted API does what tests rely on: pure replies, exact counts, faults."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubesynth_testing.fake_llm import MODEL, FakeLlm, Faults, pod_files

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["a", "b"]},
        "sure": {"type": "boolean"},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "maxItems": 2},
    },
    "$defs": {"item": {"type": "string", "maxLength": 12}},
}


def _body(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **fields}


async def _post(server: FakeLlm, path: str, body: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{server.origin}{path}", json=body) as response,
    ):
        return response.status, await response.json()


async def _ask(server: FakeLlm, body: Any) -> str:
    status, reply = await _post(server, "/v1/chat/completions", body)
    assert status == 200
    return str(reply["choices"][0]["message"]["content"])


async def _stats(server: FakeLlm) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{server.origin}/stats?hashes=1") as response,
    ):
        stats: dict[str, Any] = await response.json()
        return stats


async def test_reply_depends_on_the_body_alone(server: FakeLlm) -> None:
    body = _body("Say something.", seed=1)
    first = await _ask(server, body)
    assert await _ask(server, dict(reversed(body.items()))) == first
    async with FakeLlm() as other:
        assert await _ask(other, body) == first
    assert await _ask(server, _body("Say something.", seed=2)) != first


async def test_list_has_the_number_of_items_that_the_prompt_asks_for(server: FakeLlm) -> None:
    lines = (await _ask(server, _body("Write 4 different questions about it."))).splitlines()
    assert [line.split(". ")[0] for line in lines] == ["1", "2", "3", "4"]
    assert all(line.endswith("?") for line in lines)


async def test_schema_is_respected(server: FakeLlm) -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    reply = json.loads(await _ask(server, _body("Go.", response_format=response_format)))
    assert reply["kind"] in ("a", "b")
    assert reply["sure"] in (True, False)
    assert 1 <= reply["score"] <= 5
    assert len(reply["items"]) == 2
    assert all(len(item) <= 12 for item in reply["items"])


async def test_completion_is_cut_at_max_tokens(server: FakeLlm) -> None:
    _, reply = await _post(server, "/v1/chat/completions", _body("Go.", max_tokens=2))
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 2


async def test_statistics_count_every_request_by_its_body(server: FakeLlm) -> None:
    await asyncio.gather(*(_ask(server, _body(text)) for text in ("a", "a", "b")))
    stats = await _stats(server)
    assert (stats["requests"], stats["unique_requests"], stats["answered"]) == (3, 2, 3)
    assert sorted(stats["received"].values()) == [1, 2]
    assert list(stats["duplicates"].values()) == [2]
    assert stats["completion_tokens"] > 0
    await _post(server, "/reset", {})
    assert (await _stats(server))["requests"] == 0


async def test_faults_are_set_over_the_wire_and_counted(server: FakeLlm) -> None:
    status, faults = await _post(server, "/faults", {"error_rate": 1, "error_status": 529})
    assert (status, faults["error_rate"], faults["latency_seconds"]) == (200, 1, 0)
    assert (await _post(server, "/v1/chat/completions", _body("a")))[0] == 529
    stats = await _stats(server)
    assert (stats["statuses"], stats["answered"]) == ({"529": 1}, 0)
    assert (await _post(server, "/faults", {"eror_rate": 1}))[0] == 400


async def test_faults_come_again_in_the_same_places_and_end_with_the_attempts(
    server: FakeLlm,
) -> None:
    faults = Faults(error_rate=0.5, faulty_attempts=1)
    bodies = [_body(str(number)) for number in range(20)]

    async def statuses() -> list[int]:
        server.set_faults(faults)
        return [(await _post(server, "/v1/chat/completions", body))[0] for body in bodies]

    first, second = await statuses(), await statuses()
    assert set(first) == {200, 503}
    assert set(second) == {200}
    await _post(server, "/reset", {})
    assert await statuses() == first


async def test_token_bucket_refuses_what_is_over_the_rate(server: FakeLlm) -> None:
    server.set_faults(Faults(requests_per_second=0.01, burst=3))
    bodies = [_body(str(number)) for number in range(5)]
    replies = await asyncio.gather(
        *(_post(server, "/v1/chat/completions", body) for body in bodies)
    )
    assert sorted(status for status, _ in replies) == [200, 200, 200, 429, 429]
    assert (await _stats(server))["rate_limited"] == 2


async def test_client_that_gives_up_is_no_longer_in_flight(server: FakeLlm) -> None:
    server.set_faults(Faults(hang_rate=1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_ask(server, _body("a")), 0.2)
    async with asyncio.timeout(5):
        while (await _stats(server))["in_flight"]:
            await asyncio.sleep(0.02)
    assert (await _stats(server))["in_flight_peak"] == 1


async def test_files_for_a_pod_are_complete(tmp_path: Path) -> None:
    package = tmp_path / "kubesynth_testing"
    package.mkdir()
    for name, text in pod_files().items():
        (package / name).write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kubesynth_testing.fake_llm", "--port", "0"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    process.terminate()
    await process.wait()
    assert line.startswith("serving fake-model at http://127.0.0.1:")
