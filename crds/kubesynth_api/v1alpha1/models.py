"""The models that a job speaks to, by role."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import (
    ApiModel,
    CelRule,
    JsonObject,
    LabelName,
    exactly_one_of,
)
from kubesynth_api.meta import SecretValue, TextSource
from kubesynth_api.v1alpha1 import changes
from kubesynth_api.v1alpha1.model_servers import NamespaceName, ServerName, ServerSettings
from kubesynth_api.v1alpha1.protocols import Protocol, TritonOptions
from kubesynth_api.v1alpha1.sampling import SamplingParameters

HeaderName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9-]+$")]
# Set by the client itself; the first two would put a secret into the job.
_OWN_HEADERS = (
    "authorization",
    "api-key",
    "host",
    "content-type",
    "content-length",
    "transfer-encoding",
)
_HTTP_URL = r"^https?://[^/ ]+(/[^? #]*)?$"
# Where requests themselves go: `url` is what all of them begin with.
_REQUEST_URL = r"/(chat/)?completions/?$"
_GRPC_URL = r"^(grpcs?://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$"


class AzureOpenAI(ApiModel):
    """How Azure OpenAI's own API differs: a deployment in the path, api-version, and api-key."""

    api_version: Annotated[
        str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][-A-Za-z0-9.]*$")
    ] = Field(
        description="Sent as ?api-version= with every request.",
        examples=["2024-10-21"],
    )


class ExternalModel(ApiModel):
    """An endpoint that is already there."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            f"self.protocol != 'OpenAI' || self.url.matches(r'{_HTTP_URL}')",
            "url must be http:// or https:// with a host, up to and with the /v1, without a query",
            ".url",
            lambda model: model.protocol != "OpenAI" or bool(re.search(_HTTP_URL, model.url)),
        ),
        CelRule(
            f"self.protocol != 'OpenAI' || !self.url.matches(r'{_REQUEST_URL}')",
            "url must be the base URL, up to and with the /v1: leave out /chat/completions, "
            "which requests add to it",
            ".url",
            lambda model: model.protocol != "OpenAI" or not re.search(_REQUEST_URL, model.url),
        ),
        CelRule(
            f"self.protocol != 'Triton' || self.url.matches(r'{_GRPC_URL}')",
            "url of a Triton server must be grpc://HOST:PORT, grpcs://HOST:PORT or HOST:PORT",
            ".url",
            lambda model: model.protocol != "Triton" or bool(re.search(_GRPC_URL, model.url)),
        ),
        CelRule(
            "!has(self.triton) || self.protocol == 'Triton'",
            "triton belongs to protocol Triton",
            ".triton",
            lambda model: model.triton is None or model.protocol == "Triton",
        ),
        CelRule(
            "!has(self.azure) || self.protocol == 'OpenAI'",
            "azure belongs to protocol OpenAI",
            ".azure",
            lambda model: model.azure is None or model.protocol == "OpenAI",
        ),
        CelRule(
            "!has(self.headers)"
            f" || !self.headers.exists(k, k.lowerAscii() in {list(_OWN_HEADERS)})",
            f"{', '.join(_OWN_HEADERS)} cannot be set here (a key goes into apiKey)",
            ".headers",
            lambda model: not any(name.lower() in _OWN_HEADERS for name in model.headers),
        ),
    )

    protocol: Protocol = Field(
        default="OpenAI",
        description=(
            "OpenAI: chat completions over HTTP, as vLLM, NIM, llama.cpp and hosted APIs have "
            "them. Triton: Triton Inference Server over gRPC, NeMo Deploy among them."
        ),
    )
    url: Annotated[str, Field(min_length=3, max_length=1024)] = Field(
        description=(
            "Base URL, with its /v1: requests go to URL/chat/completions. With protocol Triton: "
            "grpc://HOST:PORT, or grpcs:// for TLS; the port is 8001 if none is given."
        ),
        examples=["https://inference.example.com/v1", "grpc://triton.models.svc:8001"],
    )
    model: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name of the model as the endpoint knows it."
    )
    api_key: SecretValue | None = Field(
        default=None,
        description=(
            "Key from a Secret of the job's namespace, sent as bearer token, to Azure as api-key."
        ),
    )
    azure: AzureOpenAI | None = Field(
        default=None,
        description=(
            "For Azure OpenAI. `url` is the resource's (https://NAME.openai.azure.com) and `model` "
            "the deployment, or `url` is the deployment's own (.../openai/deployments/NAME). "
            "Azure's /openai/v1 needs none of this."
        ),
    )
    ca_bundle: TextSource | None = Field(
        default=None,
        description="Certificate authorities to trust for this endpoint (PEM).",
    )
    headers: Annotated[
        dict[HeaderName, Annotated[str, Field(max_length=1024)]], Field(max_length=16)
    ] = Field(
        default_factory=dict,
        description=(
            "Extra headers of every request; with protocol Triton, gRPC metadata. Nothing "
            "confidential here."
        ),
    )
    extra_body: JsonObject | None = Field(
        default=None,
        description=(
            "Extra fields of every request body, for what a server knows beyond sampling. They win "
            "over all others. With protocol Triton: inputs of the model, by name."
        ),
    )
    triton: TritonOptions | None = Field(
        default=None, description="How a model on a Triton server is asked. Protocol Triton only."
    )


class EmbeddedModel(ApiModel):
    """The small model that ships with kubesynth, run on the CPU beside the pipeline.

    For trying things out without a key or a GPU: it is far too small for data of any quality.
    """

    context_tokens: int = Field(
        default=2048, ge=256, le=8192, description="Context per request, in tokens."
    )
    slots: int = Field(default=4, ge=1, le=64, description="Requests served at the same time.")


class InlineServer(ServerSettings):
    """A model server that lives and dies with the job.

    It becomes a ModelServer of the name JOB-ROLE, which the job owns. It starts when the job is
    accepted (with a queue: when the queue has admitted the shards), is stopped while the job is
    suspended, and is deleted when the job has ended.
    """


class ServerReference(ApiModel):
    """A shared ModelServer. It is started when it is at rest, and kept as long as jobs need it."""

    name: ServerName = Field(description="Name of the ModelServer.")
    namespace: NamespaceName | None = Field(
        default=None,
        description=(
            "Its namespace, if it is not the job's own. The server has to list the job's namespace "
            "in allowedNamespaces."
        ),
    )


class ModelLimits(ApiModel):
    """Limits for the whole job, over all its pods together."""

    concurrency: int = Field(
        default=32,
        ge=1,
        le=100000,
        description=(
            "Requests under way at once. Pods share it, and each needs one, so it is at least the "
            "number of pods at work (shards.parallelism)."
        ),
    )
    adaptive: Literal["Refusals", "Latency"] = Field(
        default="Refusals",
        description=(
            "How the run finds out what the server takes, below these limits. Refusals: it slows "
            "down when the server says 429 or 503. Latency: also when more requests under way only "
            "make answers slower and bring no more of them, for servers that queue without limit, "
            "such as one's own vLLM."
        ),
    )
    requests_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="Requests per minute, retries included, spread evenly over the minute.",
    )
    tokens_per_minute: int | None = Field(
        default=None,
        ge=1,
        le=10**12,
        description=(
            "Tokens per minute, prompts and completions. A request reserves what it seems to need "
            "and is settled by the server's own count."
        ),
    )


class ModelSpec(ApiModel):
    """A model in a role. Exactly one of external, server, serverRef and embedded."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        exactly_one_of("external", "server", "serverRef", "embedded"),
        *changes.MODEL_RULES,
    )

    name: Annotated[LabelName, Field(max_length=15)] = Field(
        description="The role, such as generator or judge. Stages name it in `model`."
    )
    external: ExternalModel | None = Field(
        default=None,
        description=(
            "An endpoint that is already there: a Service of the cluster, or a hosted API. It "
            "speaks OpenAI's protocol, or Triton's."
        ),
    )
    server: InlineServer | None = Field(
        default=None,
        description=(
            "A model server that the operator starts for the job: it lives and dies with the job."
        ),
    )
    server_ref: ServerReference | None = Field(
        default=None, description="A ModelServer that jobs share."
    )
    embedded: EmbeddedModel | None = Field(
        default=None,
        description=(
            "The small model that ships with kubesynth, on the CPU of the runner pods. For trying "
            "things out without a key or a GPU: it is far too small for data of any quality. The "
            "runner's image must contain it."
        ),
    )
    sampling: SamplingParameters | None = Field(
        default=None,
        description=(
            "How completions are drawn, for every stage that uses this model. A stage's own "
            "sampling wins field by field; what neither sets is left to the server."
        ),
    )
    limits: ModelLimits = Field(
        default_factory=ModelLimits, description="Limits over all pods of the job together."
    )
    request_timeout_seconds: int = Field(
        default=300, ge=1, le=86400, description="How long one request may take, in seconds."
    )
    max_attempts: int = Field(
        default=6,
        ge=1,
        le=100,
        description=(
            "Requests spent on one completion before it counts as failed. Being told to slow down "
            "(429, 503) spends none, nor does a connection that is refused or closed."
        ),
    )
