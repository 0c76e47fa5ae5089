"""A chat client for models on Triton Inference Server: NeMo Deploy, vLLM and TensorRT-LLM backends.

Which tensors a model has is asked once, before its first request. Every failure leaves as a
`ClientError`; nothing else escapes but cancellation, which ends the call on the server too.
Requests are sent once: retries and pacing belong to the engine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from kubesynth_api.chat_templates import TemplateProblem
from kubesynth_runner.llm import probing
from kubesynth_runner.llm.base import (
    CUT_OFF,
    Capabilities,
    Completion,
    CompletionRequest,
    Message,
)
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton import answers, contracts, status, wire
from kubesynth_runner.llm.triton.contracts import Contract, EncodedInput
from kubesynth_runner.llm.triton.discovery import Discovery
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_runner.llm.triton.lanes import Lanes
from kubesynth_runner.llm.triton.link import AnswersAsStreamError, Link
from kubesynth_runner.llm.triton.usage import usage
from kubesynth_runner.llm.wire import split_reasoning

UNIMPLEMENTED = status.HTTP_STATUS["UNIMPLEMENTED"]


class TritonChatClient:
    """A `ChatClient` over gRPC. One instance per event loop.

    Raises:
        ClientError: AUTHENTICATION, the endpoint's CA bundle cannot be read.
    """

    def __init__(
        self, endpoint: TritonEndpoint, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoint = endpoint
        self._link = Link(endpoint)
        self._discovery = Discovery(endpoint, self._link, clock)
        self._contract: Contract | None = None
        self._finding = asyncio.Lock()
        self._streams = False
        self._lanes = Lanes()

    async def complete(self, request: CompletionRequest) -> Completion:
        """Send one request, once."""
        contract = self._contract
        if contract is None:
            try:
                contract = await self._find_contract()
            except ClientError as error:
                if error.kind is ErrorKind.BAD_REQUEST:
                    # The model has changed since the run began: no record's fault.
                    raise ClientError(ErrorKind.MODEL_NOT_FOUND, str(error)) from error
                raise
        return await self._complete(contract, request)

    async def probe(self) -> Capabilities:
        """Check that the model is loaded and fits, and whether it holds an answer to a schema."""
        contract = await self._find_contract(anew=True)
        models = (self._endpoint.model,)
        if contract.constrains:
            for bounds in (True, False):
                if await self._is_constrained(contract, bounds=bounds):
                    return Capabilities(json_schema=True, models=models, schema_bounds=bounds)
        await self._require_answer(contract)
        return Capabilities(json_schema=False, models=models)

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        await self._link.close()

    async def _find_contract(self, *, anew: bool = False) -> Contract:
        async with self._finding:
            if self._contract is None or anew:
                self._contract = await self._discovery.find()
                self._streams = self._contract.signature.decoupled
            return self._contract

    async def _is_constrained(self, contract: Contract, *, bounds: bool) -> bool:
        request = probing.probe_request(constrained=True, bounds=bounds)
        try:
            completion = await self._complete(contract, self._fitted(contract, request))
        except ClientError as error:
            if error.kind in probing.UNSUPPORTED_KINDS or probing.was_cut_off(error):
                return False
            raise
        return probing.is_constrained(completion)

    async def _require_answer(self, contract: Contract) -> None:
        """See that the model gives an answer at all; an empty one is one."""
        try:
            request = probing.probe_request(constrained=False)
            await self._complete(contract, self._fitted(contract, request))
        except ClientError as error:
            if error.kind is not ErrorKind.EMPTY_COMPLETION:
                raise

    def _fitted(self, contract: Contract, request: CompletionRequest) -> CompletionRequest:
        """Return the probe's request with what the model takes, and may need, besides.

        That is a limit on its length, and the values that every record's request has.
        """
        wanted = {**self._endpoint.sampling, **request.sampling}
        lacking = contract.missing(wanted)
        sampling = {name: value for name, value in wanted.items() if name not in lacking}
        return msgspec.structs.replace(
            request, sampling=sampling, extra_body=dict(self._endpoint.extra_body)
        )

    async def _complete(self, contract: Contract, request: CompletionRequest) -> Completion:
        prompt = self._prompt(request.messages)
        values = contract.values(request, server_template=self._endpoint.render is None)
        inputs = contract.encode(values, prompt)
        if contract.shares_sampling:
            async with self._lanes.enter(tuple((item.name, item.content) for item in inputs[1:])):
                answer = await self._infer(contract, inputs)
        else:
            answer = await self._infer(contract, inputs)
        return self._to_completion(contract, request, prompt, answer)

    def _prompt(self, messages: Sequence[Message]) -> str:
        render = self._endpoint.render
        if render is None:
            turns = [{"role": turn.role, "content": turn.content} for turn in messages]
            return json.dumps(turns, ensure_ascii=False)
        try:
            return render(messages)
        except TemplateProblem as problem:
            raise ClientError(ErrorKind.BAD_REQUEST, f"triton.chatTemplate: {problem}") from problem

    async def _infer(self, contract: Contract, inputs: Sequence[EncodedInput]) -> answers.Answer:
        request = self._to_message(contract, inputs)
        try:
            if not self._streams:
                try:
                    return await self._link.infer(request, contract.completion)
                except AnswersAsStreamError:
                    self._streams = True
            return await self._link.stream(request, contract.completion)
        except ClientError as error:
            if error.kind is ErrorKind.MODEL_NOT_FOUND and error.status_code != UNIMPLEMENTED:
                # It was there: its server has started anew and loads its models still.
                raise ClientError(ErrorKind.OVERLOADED, str(error), body=error.body) from error
            raise

    def _to_message(self, contract: Contract, inputs: Sequence[EncodedInput]) -> Any:
        request = wire.ModelInferRequest(
            model_name=self._endpoint.model, model_version=self._endpoint.model_version
        )
        for item in inputs:
            request.inputs.add(name=item.name, datatype=item.datatype, shape=item.shape)
            request.raw_input_contents.append(item.content)
        for name in contract.outputs:
            request.outputs.add(name=name)
        return request

    def _to_completion(
        self,
        contract: Contract,
        request: CompletionRequest,
        prompt: str,
        answer: answers.Answer,
    ) -> Completion:
        text = answer.text
        if contract.name == contracts.NEMO_DEPLOY:
            error = status.in_band_failure(text, where=self._endpoint.where)
            if error is not None:
                raise error
        if contract.echoes:
            text = text.removeprefix(prompt)
        tokens = usage(prompt, text, answer.prompt_tokens, answer.completion_tokens)
        text, reasoning = split_reasoning(text)
        text, stopped = answers.cut(text, request.sampling.get("stop") or ())
        finish_reason = "stop" if stopped else answer.finish_reason
        completion = Completion(text, finish_reason, tokens, self._endpoint.model, reasoning)
        if not text.strip():
            raise self._empty(completion)
        return completion

    def _empty(self, completion: Completion) -> ClientError:
        """Return the error for a completion without words."""
        # Most models do not say why they ended; reasoning that leads to nothing was cut off.
        if completion.finish_reason is None and completion.reasoning:
            completion = msgspec.structs.replace(completion, finish_reason="length")
        message = "the completion is empty"
        if completion.finish_reason in CUT_OFF:
            message += " but for its reasoning" if completion.reasoning else " and cut off"
            message += "; raise maxTokens"
        return ClientError(
            ErrorKind.EMPTY_COMPLETION,
            f"{message} [{self._endpoint.where}]",
            answer=completion,
        )
