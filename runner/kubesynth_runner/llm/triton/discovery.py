"""Finding out how a model is asked: is it loaded, what are its tensors, do they fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kubesynth_runner.llm.base import CompletionRequest
from kubesynth_runner.llm.errors import ClientError, ErrorKind
from kubesynth_runner.llm.triton import contracts, signature
from kubesynth_runner.llm.triton.contracts import Contract
from kubesynth_runner.llm.triton.endpoint import TritonEndpoint
from kubesynth_runner.llm.triton.link import Link

# A server that is only starting does not know its models yet; later the name is wrong.
UNKNOWN_MODEL_SECONDS = 60.0
_LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
# How a server refuses to tell a model's configuration: then its metadata has to do.
_SECRET_STATUSES = frozenset({401, 403, 501})


class Discovery:
    """Asks an endpoint about its model, as often as it takes."""

    def __init__(
        self, endpoint: TritonEndpoint, link: Link, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._endpoint = endpoint
        self._link = link
        self._clock = clock
        self._unknown_since: float | None = None

    async def find(self) -> Contract:
        """Return how the model is asked.

        Raises:
            ClientError: OVERLOADED while it is not ready, MODEL_NOT_FOUND if there is no such
                model, BAD_REQUEST if it does not fit; or the server did not answer.
        """
        await self._require_ready()
        contract = contracts.choose(await self._read_signature(), self._endpoint.contract)
        self._check(contract)
        return contract

    async def _require_ready(self) -> None:
        if (await self._about_model("ModelReady")).ready:
            self._unknown_since = None
            return
        # That is also what Triton says of a model that it does not have.
        try:
            await self._about_model("ModelMetadata")
        except ClientError as error:
            if error.kind is not ErrorKind.MODEL_NOT_FOUND:
                raise
            raise await self._unknown(error) from error
        self._unknown_since = None
        raise ClientError(ErrorKind.OVERLOADED, f"the model is not ready [{self._endpoint.where}]")

    async def _unknown(self, error: ClientError) -> ClientError:
        if self._unknown_since is None:
            self._unknown_since = self._clock()
        if self._clock() - self._unknown_since < UNKNOWN_MODEL_SECONDS:
            return ClientError(
                ErrorKind.OVERLOADED, f"the server does not have the model (yet): {error}"
            )
        served = await self._list_models()
        known = f"; it has {', '.join(served)}" if served else ""
        return ClientError(
            ErrorKind.MODEL_NOT_FOUND,
            f"{self._endpoint.url} does not have the model {self._endpoint.model!r}{known}",
        )

    async def _list_models(self) -> tuple[str, ...]:
        """Return the names of the server's models, nothing where that is a secret."""
        try:
            answer = await self._link.ask("RepositoryIndex")
        except ClientError:
            return ()
        return tuple(model.name for model in answer.models)

    async def _read_signature(self) -> signature.Signature:
        try:
            answer = await self._about_model("ModelConfig")
        except ClientError as error:
            if error.status_code not in _SECRET_STATUSES and "restricted" not in str(error):
                raise
            return signature.from_metadata(await self._about_model("ModelMetadata"))
        return signature.from_config(answer.config)

    async def _about_model(self, method: str) -> Any:
        return await self._link.ask(
            method, name=self._endpoint.model, version=self._endpoint.model_version
        )

    def _check(self, contract: Contract) -> None:
        endpoint = self._endpoint
        if endpoint.render is None and not contract.takes_messages:
            raise self._misfit(
                "takes prompts, not messages, and has no input apply_chat_template; set "
                "triton.chatTemplate to the model's own (jinja, tokenizerConfig) or a builtIn one"
            )
        missing = contract.missing(endpoint.sampling_fields)
        if missing:
            raise self._misfit(
                f"has no input for sampling {', '.join(missing)}; remove it. "
                f"It has {contract.signature}"
            )
        if contract.stops_early and not endpoint.sampling_fields & _LIMITS:
            raise self._misfit(
                "would end each completion after 16 tokens, as vLLM does unless it is told "
                "otherwise; set sampling.maxTokens"
            )
        fields: dict[str, Any] = dict.fromkeys(endpoint.sampling_fields, 1)
        if "stop" in fields:
            fields["stop"] = ("x",)
        given = contract.values(CompletionRequest((), fields), server_template=False)
        unmet = contract.unmet({*given, *endpoint.extra_body})
        if unmet:
            raise self._misfit(
                f"requires {', '.join(map(str, unmet))}; set sampling.maxTokens if that is its "
                "limit, otherwise extraBody, by the input's name"
            )

    def _misfit(self, what: str) -> ClientError:
        return ClientError(ErrorKind.BAD_REQUEST, f"the model {self._endpoint.model!r} {what}")
