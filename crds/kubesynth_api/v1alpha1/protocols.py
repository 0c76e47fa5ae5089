"""How a model's server is spoken to, whether it is external or deployed: protocol and prompts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, exactly_one_of
from kubesynth_api.meta import KeySelector

Protocol = Literal["OpenAI", "Triton"]
BuiltInTemplate = Literal[
    "ChatML",
    "Gemma",
    "Llama3",
    "Mistral",
    "Nemotron4",
    "Phi3",
    "Phi4",
    "Plain",
    "PassThrough",
]
SpecialToken = Annotated[str, Field(max_length=128)]


class JinjaText(ApiModel):
    """A chat template, inline or from a ConfigMap; exactly one of them."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("inline", "configMapKeyRef"),)

    inline: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        default=None, description="The template itself (Jinja2)."
    )
    config_map_key_ref: KeySelector | None = Field(
        default=None, description="ConfigMap and key that hold the template."
    )


class TokenizerConfig(ApiModel):
    """A tokenizer_config.json, inline or from a ConfigMap; exactly one of them."""

    cel: ClassVar[tuple[CelRule, ...]] = (exactly_one_of("inline", "configMapKeyRef"),)

    inline: Annotated[str, Field(min_length=2, max_length=131072)] | None = Field(
        default=None, description="The JSON text of the file."
    )
    config_map_key_ref: KeySelector | None = Field(
        default=None, description="ConfigMap and key that hold the file."
    )


class ServerTemplate(ApiModel):
    """The server applies its model's own template. No fields yet."""


class ChatTemplate(ApiModel):
    """How the turns of a conversation become one prompt, where a server takes nothing else.

    Exactly one of builtIn, jinja, tokenizerConfig and server.
    """

    cel: ClassVar[tuple[CelRule, ...]] = (
        exactly_one_of("builtIn", "jinja", "tokenizerConfig", "server"),
        CelRule(
            "!(has(self.bosToken) || has(self.eosToken)) || has(self.jinja)",
            "bosToken and eosToken belong to jinja; a tokenizerConfig brings its own",
            ".bosToken",
            lambda template: (
                template.jinja is not None
                or (template.bos_token is None and template.eos_token is None)
            ),
        ),
    )

    built_in: BuiltInTemplate | None = Field(
        default=None,
        description=(
            "Format of a family of models: ChatML (Qwen, SmolLM2, Hermes), Gemma, Llama3 (also 3.1 "
            "to 3.3), Mistral (also Mixtral), Nemotron4 (Nemotron-4-340B), Phi3 (also Phi-4-mini), "
            "Phi4. Plain labels the turns System, User and Assistant, for models without a format "
            "of their own. PassThrough sends the texts alone, with a blank line between them."
        ),
    )
    jinja: JinjaText | None = Field(
        default=None,
        description=(
            "A chat template as Hugging Face has them. Variables: messages (role and content "
            "each), add_generation_prompt (true), bos_token, eos_token. It runs in a sandbox."
        ),
    )
    tokenizer_config: TokenizerConfig | None = Field(
        default=None,
        description="The model's tokenizer_config.json: its chat_template and special tokens.",
    )
    server: ServerTemplate | None = Field(
        default=None,
        description=(
            "The server applies its model's own template: servers with an input "
            "apply_chat_template alone, such as NeMo Deploy's for Megatron models."
        ),
    )
    bos_token: SpecialToken | None = Field(
        default=None, description="Begin-of-text token, where the jinja template uses bos_token."
    )
    eos_token: SpecialToken | None = Field(
        default=None, description="End-of-text token, where the jinja template uses eos_token."
    )
    begin_of_text: Literal["AddedByServer", "InPrompt"] = Field(
        default="AddedByServer",
        description=(
            "AddedByServer: the server's tokenizer puts the begin-of-text token before each "
            "prompt, so one that the template writes is left out; two of them make completions "
            "worse. InPrompt: it is sent as the template has it."
        ),
    )


class TritonOptions(ApiModel):
    """How a model on a Triton Inference Server is asked."""

    contract: Literal["Auto", "NeMoDeploy", "TextGeneration"] = Field(
        default="Auto",
        description=(
            "Names of the model's tensors. NeMoDeploy: prompts, and outputs or sentences. "
            "TextGeneration: text_input and text_output, as the vLLM and TensorRT-LLM backends "
            "have them. Auto: whichever the model has."
        ),
    )
    model_version: Annotated[str, Field(max_length=32, pattern=r"^[0-9]+$")] | None = Field(
        default=None, description="Version of the model; without it the server chooses."
    )
    chat_template: ChatTemplate | None = Field(
        default=None,
        description=(
            "How messages become a prompt. It can be left out only where the server applies its "
            "model's own template."
        ),
    )
    max_message_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        le=2**31 - 1,
        description="Largest request or answer that is sent or taken, in bytes.",
    )
    keepalive_seconds: int = Field(
        default=330,
        ge=10,
        le=7200,
        description=(
            "How often an idle connection is checked, in seconds. Triton closes connections that "
            "are checked more often than every 300 seconds, unless it is told otherwise "
            "(--grpc-http2-min-recv-ping-interval-without-data)."
        ),
    )
    connections: int = Field(
        default=1,
        ge=1,
        le=64,
        description=(
            "Connections of each runner pod. A ClusterIP Service gives each connection to one of "
            "its servers, so with several replicas behind it there should be several. A headless "
            "Service needs one: requests go to all its addresses in turn."
        ),
    )
