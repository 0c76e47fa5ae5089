"""Whether a model server can be made at all: its spec, its class, its token."""

from __future__ import annotations

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.model_servers import ModelServerSpec, is_server_name
from kubesynth_api.v1alpha1.protocols import TritonOptions
from kubesynth_api.v1alpha1.server_classes import unknown_placeholders
from kubesynth_operator.observation import Problem
from kubesynth_operator.servers.seen import ServerClass, ServerObservation


def problem_with(seen: ServerObservation) -> Problem | None:
    """Return why a server is refused, or None."""
    server, chosen = seen.server, seen.server_class
    if server.spec is None:
        return server.spec_problem
    if not is_server_name(server.key.name):
        return Problem(Reason.INVALID_SPEC, "metadata.name is no name for a server.")
    if chosen is None:
        return Problem(Reason.REFERENCE_NOT_FOUND, f"spec.classRef: {seen.class_hint}")
    if chosen.spec is None:
        return Problem(Reason.INVALID_SPEC, f"{chosen.label}: {chosen.problem}")
    for path, found in unknown_placeholders(chosen.spec):
        return Problem(
            Reason.INVALID_SPEC, f"{chosen.label}: {path}: {found} is no placeholder of a class"
        )
    if server.spec.triton is not None and chosen.spec.protocol != "Triton":
        return Problem(Reason.INVALID_SPEC, f"spec.triton: {chosen.label} does not speak Triton")
    for owner, options in (("spec", server.spec.triton), (chosen.label, chosen.spec.triton)):
        if options is not None and _refers(options):
            message = f"{owner}.triton.chatTemplate: give the template inline, without a ConfigMap"
            return Problem(Reason.INVALID_SPEC, message)
    return _problem_with_nodes(seen, server.spec, chosen) or _problem_with_token(seen, server.spec)


def _problem_with_nodes(
    seen: ServerObservation, spec: ModelServerSpec, chosen: ServerClass
) -> Problem | None:
    if spec.nodes == 1:
        return None
    if chosen.spec is None or chosen.spec.multi_node is None:
        message = f"spec.nodes: {chosen.label} does not say how several nodes work (multiNode)"
        return Problem(Reason.INVALID_SPEC, message)
    if seen.groups_problem:
        return Problem(Reason.KIND_NOT_INSTALLED, f"spec.nodes: {seen.groups_problem}")
    return None


def _refers(options: TritonOptions) -> bool:
    """Tell whether a template is in a ConfigMap, which jobs elsewhere could not mount."""
    template = options.chat_template
    if template is None:
        return False
    sources = (template.jinja, template.tokenizer_config)
    return any(source is not None and source.config_map_key_ref is not None for source in sources)


def _problem_with_token(seen: ServerObservation, spec: ModelServerSpec) -> Problem | None:
    if spec.token is None or seen.secret is None:
        return None
    selector = spec.token.secret_key_ref
    what = f"spec.token: Secret {selector.name!r}"
    if seen.secret.denied:
        return Problem(Reason.REFERENCE_DENIED, f"{what} may not be read by the operator")
    if not seen.secret.exists:
        return Problem(Reason.REFERENCE_NOT_FOUND, f"{what} does not exist")
    if selector.key not in seen.secret.keys:
        return Problem(Reason.REFERENCE_NOT_FOUND, f"{what} has no key {selector.key!r}")
    return None
