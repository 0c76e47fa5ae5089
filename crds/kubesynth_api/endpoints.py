"""Problems of models: what their endpoints are asked with, and what is derived from their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kubesynth_api import chat_templates, choices
from kubesynth_api.findings import Finding, invalid
from kubesynth_api.uris import version_advice
from kubesynth_api.v1alpha1.models import ExternalModel
from kubesynth_api.v1alpha1.protocols import ChatTemplate, JinjaText, TokenizerConfig
from kubesynth_api.v1alpha1.sampling import SamplingParameters
from kubesynth_api.v1alpha1.stages.judgement import reward_method
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec

MODEL_SERVER_NAME_MAX_LENGTH = 50

ConfigMapData = Mapping[str, Mapping[str, str]]


def check(spec: SyntheticDataJobSpec, name: str, config_maps: ConfigMapData) -> Iterator[Finding]:
    """Yield the findings of all models, in order."""
    embedded = [(i, model.embedded) for i, model in enumerate(spec.models) if model.embedded]
    for index, settings in embedded[1:]:
        if settings != embedded[0][1]:
            yield invalid(
                f"spec.models[{index}].embedded",
                f"must equal spec.models[{embedded[0][0]}].embedded: a pod runs one such model",
            )
    for index, model in enumerate(spec.models):
        server_name = f"{name}-{model.name}"
        if model.server is not None and len(server_name) > MODEL_SERVER_NAME_MAX_LENGTH:
            yield invalid(
                f"spec.models[{index}].name",
                f"its server would be named {server_name!r}, which is longer than "
                f"{MODEL_SERVER_NAME_MAX_LENGTH} characters; shorten the role or the job's name",
            )
        if model.external is not None:
            yield from _external(model.external, f"spec.models[{index}].external", config_maps)
    yield from _sampling_of_triton(spec)


def notes(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield what may well be meant, and is more often an oversight: nothing is refused for it."""
    for index, said in doubtful_urls(spec):
        yield invalid(f"spec.models[{index}].external.url", said)


def doubtful_urls(spec: SyntheticDataJobSpec) -> Iterator[tuple[int, str]]:
    """Yield the places of the models whose `url` may lack something, and what that is.

    What is asked for numbers at addresses beside /v1 is found without it.
    """
    asked_beside = {
        role or spec.models[0].name
        for stage in spec.pipeline
        for field, role in stage.member.roles().items()
        if reward_method(stage.member, field) not in (None, "Attributes")
    }
    for index, model in enumerate(spec.models):
        external = model.external
        if external is None or external.protocol != "OpenAI" or external.azure is not None:
            continue
        if model.name not in asked_beside and (said := version_advice(external.url)):
            yield index, said


def template_text(source: JinjaText | TokenizerConfig, config_maps: ConfigMapData) -> str | None:
    """Return a text that is inline or in a ConfigMap; None if that is not known here."""
    reference = source.config_map_key_ref
    if reference is not None:
        return config_maps.get(reference.name, {}).get(reference.key)
    return source.inline


def _external(external: ExternalModel, path: str, config_maps: ConfigMapData) -> Iterator[Finding]:
    if external.triton is not None and external.triton.chat_template is not None:
        template = external.triton.chat_template
        yield from check_template(template, f"{path}.triton.chatTemplate", config_maps)


def _sampling_of_triton(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield what is asked of models on Triton and none of their backends can do."""
    on_triton = {
        model.name
        for model in spec.models
        if model.external is not None and model.external.protocol == "Triton"
    }
    for index, model in enumerate(spec.models):
        if model.name in on_triton and model.sampling is not None:
            yield from _unknown_to_triton(model.sampling, f"spec.models[{index}].sampling")
    for index, stage in enumerate(spec.pipeline):
        said = stage.member.samplings()
        for field, role in stage.member.roles().items():
            sampling = said.get(field)
            if sampling is not None and (role or spec.models[0].name) in on_triton:
                path = f"spec.pipeline[{index}].{stage.kind}.{choices.sampling_field(field)}"
                yield from _unknown_to_triton(sampling, path)


def _unknown_to_triton(sampling: SamplingParameters, path: str) -> Iterator[Finding]:
    for name, value, harmless in (
        ("choices", sampling.n, 1),
        ("logprobs", sampling.logprobs, False),
        ("topLogprobs", sampling.top_logprobs, 0),
        ("reasoningEffort", sampling.reasoning_effort, None),
    ):
        if value is not None and value != harmless:
            yield invalid(f"{path}.{name}", "models with protocol Triton cannot do this; remove it")


def check_template(
    template: ChatTemplate, path: str, config_maps: ConfigMapData
) -> Iterator[Finding]:
    """Yield what is wrong with a chat template, as far as its text is known."""
    for name, source in (("jinja", template.jinja), ("tokenizerConfig", template.tokenizer_config)):
        text = template_text(source, config_maps) if source is not None else None
        if source is None or text is None:
            continue
        try:
            if name == "tokenizerConfig":
                text = chat_templates.from_tokenizer_config(text).text
            chat_templates.check(text)
        except chat_templates.TemplateProblem as problem:
            member = "inline" if source.inline is not None else "configMapKeyRef"
            yield invalid(f"{path}.{name}.{member}", f"not a chat template: {problem}")
