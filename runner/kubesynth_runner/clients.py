"""The chat client of a model, by the protocol that its server speaks."""

from __future__ import annotations

import contextlib

from kubesynth_api import rewards
from kubesynth_api.chat_templates import TemplateProblem
from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.models import ExternalModel, ModelSpec
from kubesynth_api.v1alpha1.protocols import ChatTemplate, JinjaText, TokenizerConfig, TritonOptions
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.environment import RunEnvironment
from kubesynth_runner.llm import chat_prompts
from kubesynth_runner.llm.base import ChatClient
from kubesynth_runner.llm.batches import BatchApi, OpenAIBatchApi
from kubesynth_runner.llm.openai import OpenAIChatClient, OpenAIEndpoint


def connect(
    spec: SyntheticDataJobSpec,
    model: ModelSpec,
    external: ExternalModel,
    environment: RunEnvironment,
    share: int,
) -> ChatClient:
    """Return a client for an external model; `share` is how many requests it sends at once.

    Raises:
        ConfigurationError: a key is missing, or the chat template is none.
        ClientError: the CA bundle cannot be read.
    """
    if external.api_key is not None and model.name not in environment.api_keys:
        reference = external.api_key.secret_key_ref
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND,
            f"models[{model.name}].external.apiKey: Secret {reference.name!r} has no key "
            f"{reference.key!r} here",
        )
    if external.protocol == "Triton":
        return _triton(spec, model, external, environment)
    return OpenAIChatClient(
        OpenAIEndpoint(
            external.url,
            external.model,
            environment.api_keys.get(model.name),
            environment.text_file(external.ca_bundle) if external.ca_bundle else None,
            dict(external.headers),
            float(model.request_timeout_seconds),
            max_connections=share,
            azure_api_version=external.azure.api_version if external.azure else None,
            reward_method=rewards.reward_methods(spec).get(model.name),
        )
    )


def connect_embedded(url: str, model: str, timeout_seconds: float, share: int) -> ChatClient:
    """Return a client for a server of our own on this machine."""
    return OpenAIChatClient(
        OpenAIEndpoint(url, model, request_timeout_seconds=timeout_seconds, max_connections=share)
    )


def connect_batches(
    spec: SyntheticDataJobSpec, client: ChatClient, stack: contextlib.AsyncExitStack
) -> BatchApi | None:
    """Return the batch API beside a chat client, to be closed by `stack`; None if none is used."""
    if spec.execution != "Batch" or not isinstance(client, OpenAIChatClient):
        return None
    batches = OpenAIBatchApi(client.endpoint)
    stack.push_async_callback(batches.close)
    return batches


def _triton(
    spec: SyntheticDataJobSpec,
    model: ModelSpec,
    external: ExternalModel,
    environment: RunEnvironment,
) -> ChatClient:
    # gRPC takes longer to import than all else together: only where it is used.
    from kubesynth_runner.llm.triton import contracts
    from kubesynth_runner.llm.triton.client import TritonChatClient
    from kubesynth_runner.llm.triton.endpoint import TritonEndpoint

    options = external.triton or TritonOptions()

    def read(source: JinjaText | TokenizerConfig) -> str:
        return environment.read_text(source.inline, source.config_map_key_ref)

    template = options.chat_template or ChatTemplate.model_validate({"server": {}})
    try:
        render = chat_prompts.from_api(template, read)
    except TemplateProblem as problem:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC,
            f"models[{model.name}].external.triton.chatTemplate: {problem}",
        ) from problem
    sampling = _sampling(spec, model)
    return TritonChatClient(
        TritonEndpoint(
            external.url,
            external.model,
            environment.api_keys.get(model.name),
            environment.text_file(external.ca_bundle) if external.ca_bundle else None,
            dict(external.headers),
            float(model.request_timeout_seconds),
            model_version=options.model_version or "",
            contract=None if options.contract == "Auto" else options.contract,
            render=render,
            sampling_fields=frozenset(contracts.asked(sampling)),
            sampling=sampling,
            extra_body=external.extra_body or {},
            max_message_bytes=options.max_message_bytes,
            keepalive_seconds=options.keepalive_seconds,
            connections=options.connections,
        )
    )


def _sampling(spec: SyntheticDataJobSpec, model: ModelSpec) -> dict[str, object]:
    """Return the wire fields of the sampling of all stages that use a model."""
    fields = (model.sampling or SamplingParameters()).to_request_fields()
    for stage in spec.pipeline:
        said = stage.member.samplings()
        for field, role in stage.member.roles().items():
            sampling = said.get(field)
            if sampling is not None and (role or spec.models[0].name) == model.name:
                fields |= sampling.to_request_fields()
    return fields
