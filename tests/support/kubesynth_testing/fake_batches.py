"""The fake server with OpenAI's Batch API: files and batches on the real wire, without a model.

    POST /v1/files   GET, DELETE /v1/files/ID   GET /v1/files/ID/content
    POST /v1/batches   GET /v1/batches   GET /v1/batches/ID   POST /v1/batches/ID/cancel

A batch passes through validating, in_progress and finalizing in real time, then its output and
error files are there, their lines in another order than the requests'. Answers are those of the
fake server, a pure function of each request's body; faults are drawn from a request's name.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import Counter
from typing import Any

from aiohttp import web

from kubesynth_testing.fake_llm import FakeLlm
from kubesynth_testing.fake_replies import complete


@dataclasses.dataclass(frozen=True, slots=True)
class BatchFaults:
    """How batches go, and what goes wrong. Shares are of a batch's requests, 0 to 1."""

    validating_seconds: float = 0.1
    in_progress_seconds: float = 0.2
    finalizing_seconds: float = 0.1
    server_error_share: float = 0.0  # 500 in the error file, each request once
    bad_request_share: float = 0.0  # 400 in the error file, always
    expired_share: float = 0.0  # not carried out, each request once; the batch expires
    nonsense_lines: int = 0  # lines of the output file that answer nothing
    failing_batches: int = 0  # the first so many fail validation ...
    failure_code: str = "token_limit_exceeded"  # ... for this reason
    lost_answers: int = 0  # the first so many batches are created without an answer
    broken_downloads: int = 0  # the first so many contents break off half-way
    unpaid_share: float = 0.0  # 429 insufficient_quota in the error file, until it is 0
    max_requests: int = 50_000


@dataclasses.dataclass(slots=True)
class _Batch:
    id: str
    input_file_id: str
    metadata: dict[str, str]
    requests: list[dict[str, Any]]
    began: float
    failure: tuple[str, str] | None = None
    cancelled: bool = False
    completed: int = 0
    failed: int = 0
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None


class FakeBatchLlm(FakeLlm):
    """The server. `carried_out` counts answers by request, whatever its number of tries."""

    def __init__(self, faults: BatchFaults | None = None) -> None:
        super().__init__()
        self.batch_faults = faults or BatchFaults()
        self.carried_out: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, _Batch] = {}
        self.broken_downloads = 0
        self._met: Counter[str] = Counter()
        self._runner.app.add_routes(
            [
                web.post("/v1/files", self._on_upload),
                web.get("/v1/files/{id}", self._on_file),
                web.delete("/v1/files/{id}", self._on_delete),
                web.get("/v1/files/{id}/content", self._on_content),
                web.post("/v1/batches", self._on_create),
                web.get("/v1/batches", self._on_list),
                web.get("/v1/batches/{id}", self._on_batch),
                web.post("/v1/batches/{id}/cancel", self._on_cancel),
            ]
        )

    async def _on_upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        upload = form["file"]
        if form.get("purpose") != "batch" or not isinstance(upload, web.FileField):
            return _error(400, "purpose must be batch, and file a file")
        return web.json_response(self._file(self._store(upload.file.read())))

    def _store(self, data: bytes) -> str:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = data
        return file_id

    def _file(self, file_id: str) -> dict[str, Any]:
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(self.files[file_id]),
            "created_at": 0,
            "filename": f"{file_id}.jsonl",
            "purpose": "batch",
            "status": "processed",
        }

    async def _on_file(self, request: web.Request) -> web.Response:
        file_id = request.match_info["id"]
        if file_id not in self.files:
            return _error(404, f"No such File object: {file_id}")
        return web.json_response(self._file(file_id))

    async def _on_delete(self, request: web.Request) -> web.Response:
        file_id = request.match_info["id"]
        if self.files.pop(file_id, None) is None:
            return _error(404, f"No such File object: {file_id}")
        self.files[f"deleted {file_id}"] = b""  # so that no id is given twice
        return web.json_response({"id": file_id, "object": "file", "deleted": True})

    async def _on_content(self, request: web.Request) -> web.StreamResponse:
        data = self.files.get(request.match_info["id"])
        if data is None:
            return _error(404, "No such File object")
        if self.broken_downloads < self.batch_faults.broken_downloads:
            self.broken_downloads += 1
            half = web.StreamResponse(headers={"Content-Length": str(len(data))})
            await half.prepare(request)
            await half.write(data[: len(data) // 2])
            assert request.transport is not None, "it is connected"
            request.transport.close()
            return half
        return web.Response(body=data, content_type="application/octet-stream")

    async def _on_create(self, request: web.Request) -> web.Response:
        body = await request.json()
        data = self.files.get(body["input_file_id"])
        if data is None or body["endpoint"] != "/v1/chat/completions":
            return _error(400, "no such input file, or endpoint")
        batch = _Batch(
            f"batch_{len(self.batches)}",
            body["input_file_id"],
            body.get("metadata") or {},
            [json.loads(line) for line in data.splitlines()],
            time.monotonic(),
        )
        batch.failure = self._validate(batch)
        self.batches[batch.id] = batch
        if len(self.batches) <= self.batch_faults.lost_answers and request.transport is not None:
            request.transport.close()
        return web.json_response(self._view(batch))

    def _validate(self, batch: _Batch) -> tuple[str, str] | None:
        faults, names = self.batch_faults, [line["custom_id"] for line in batch.requests]
        if len(self.batches) < faults.failing_batches:
            return faults.failure_code, "Enqueued token limit reached, or whatever it is."
        if len(set(names)) < len(names):
            return "duplicate_custom_id", "The custom_id of a line is not unique."
        if len(names) > faults.max_requests:
            return "too_many_tasks", f"The file has more than {faults.max_requests} lines."
        if {(line["method"], line["url"]) for line in batch.requests} != {
            ("POST", "/v1/chat/completions")
        }:
            return "mismatched_endpoint", "A line is for another endpoint."
        if {line["body"]["model"] for line in batch.requests} != {self.model}:
            return "model_not_found", "The model does not exist, or a line is for another one."
        return None

    async def _on_list(self, request: web.Request) -> web.Response:
        newest_first = list(self.batches.values())[::-1]
        after, limit = request.query.get("after"), int(request.query.get("limit", "20"))
        if after is not None:
            ids = [batch.id for batch in newest_first]
            newest_first = newest_first[ids.index(after) + 1 :]
        page = [self._view(batch) for batch in newest_first[:limit]]
        return web.json_response(
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": len(newest_first) > limit,
            }
        )

    async def _on_batch(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        return web.json_response(self._view(batch)) if batch else _error(404, "No such batch")

    async def _on_cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch.cancelled = True
        return web.json_response(self._view(batch))

    def _advance(self, batch: _Batch) -> None:
        """Bring a batch to where it is by now."""
        faults, age = self.batch_faults, time.monotonic() - batch.began
        if batch.output_file_id or batch.error_file_id or batch.status == "failed":
            return
        if age < faults.validating_seconds:
            batch.status = "validating"
        elif batch.failure is not None:
            batch.status = "failed"
        elif batch.cancelled:
            batch.status = "cancelled"
            self._write_files(batch, share=0.5)
        elif age < faults.validating_seconds + faults.in_progress_seconds:
            batch.status = "in_progress"
        elif age < (
            faults.validating_seconds + faults.in_progress_seconds + faults.finalizing_seconds
        ):
            batch.status = "finalizing"
        else:
            batch.status = "expired" if self._write_files(batch) else "completed"

    def _write_files(self, batch: _Batch, share: float = 1.0) -> bool:
        """Write the files; return whether requests have expired."""
        output: list[str] = []
        failed: list[str] = []
        has_expired = False
        draw = random.Random(batch.id)
        requests = draw.sample(batch.requests, len(batch.requests))
        for line in requests[: int(len(requests) * share)]:
            response, error = self._respond(line)
            has_expired = has_expired or error is not None
            is_good = response is not None and response["status_code"] == 200
            answer = {
                "id": f"batch_req_{line['custom_id']}",
                "custom_id": line["custom_id"],
                "response": response,
                "error": error,
            }
            (output if is_good else failed).append(json.dumps(answer))
        batch.completed, batch.failed = len(output), len(failed)
        output += [
            "no answer",
            '{"custom_id": "somebody-elses"}',
        ] * self.batch_faults.nonsense_lines
        if output:
            batch.output_file_id = self._store("\n".join(output).encode() + b"\n")
        if failed or not output:
            batch.error_file_id = self._store("\n".join(failed).encode())
        return has_expired

    def _respond(self, line: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
        faults, name = self.batch_faults, line["custom_id"].rpartition(".")[0]
        is_first = not self._met[name]
        self._met[name] += 1
        point = random.Random(name).random()
        if point < faults.bad_request_share:
            error = {"message": "Not this one.", "type": "invalid_request_error", "code": None}
            return {"status_code": 400, "request_id": "r", "body": {"error": error}}, None
        point -= faults.bad_request_share
        if is_first and point < faults.server_error_share:
            error = {"message": "The server had an error.", "type": "server_error", "code": None}
            return {"status_code": 500, "request_id": "r", "body": {"error": error}}, None
        point -= faults.server_error_share
        if 0 <= point < faults.unpaid_share:
            code = "insufficient_quota"
            error = {"message": "You exceeded your current quota.", "type": code, "code": code}
            return {"status_code": 429, "request_id": "r", "body": {"error": error}}, None
        point -= faults.unpaid_share
        if is_first and 0 <= point < faults.expired_share:
            return None, {
                "code": "batch_expired",
                "message": "This request could not be executed before the window expired.",
            }
        self.carried_out[name] += 1
        return {"status_code": 200, "request_id": "r", "body": complete(line["body"])}, None

    def _view(self, batch: _Batch) -> dict[str, Any]:
        self._advance(batch)
        errors = None
        if batch.status == "failed" and batch.failure is not None:
            code, message = batch.failure
            problem = {"code": code, "message": message, "param": None, "line": None}
            errors = {"object": "list", "data": [problem]}
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "errors": errors,
            "input_file_id": batch.input_file_id,
            "completion_window": "24h",
            "status": batch.status,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "created_at": 0,
            "request_counts": {
                "total": len(batch.requests),
                "completed": batch.completed,
                "failed": batch.failed,
            },
            "metadata": batch.metadata,
        }


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=status)
