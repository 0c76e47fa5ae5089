"""The value of --server: the address of a server that runs, as an endpoint of a job.

http://127.0.0.1:8000/v1#meta-llama/Llama-3.1-8B-Instruct
grpc://127.0.0.1:8001#llama                              Triton
grpc://127.0.0.1:8001?chatTemplate=Llama3#llama          Triton, with a built-in chat template
"""

from __future__ import annotations

import re
from typing import get_args

import pydantic

from kubesynth_api.v1alpha1.models import ExternalModel, InlineServer
from kubesynth_api.v1alpha1.protocols import BuiltInTemplate, ChatTemplate, TritonOptions
from kubesynth_runner.cli.errors import CommandError

FORM = "URL[#MODEL]"
_ADDRESS = re.compile(
    r"""(?P<url> https?://[^/?\#\ ]+ (?:/[^?\#\ ]*)? | grpcs?://[A-Za-z0-9._\[\]:-]+ )
        (?: \?chatTemplate= (?P<template>[^\#]*) )?
        (?: \# (?P<model>.*) )?""",
    re.VERBOSE,
)


def endpoint(flag: str, address: str, declared: InlineServer | None) -> ExternalModel:
    """Return the endpoint at an address.

    Args:
        flag: The flag as it was given, for errors.
        address: Its value: URL, URL#MODEL, or grpc://HOST:PORT?chatTemplate=NAME#MODEL.
        declared: What the job says of a server of its own; None for a shared one.

    Raises:
        CommandError: it is no address, or does not say enough.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        url = address.partition("#")[0]
        forms = "http://, https://, grpc://HOST:PORT or grpcs://HOST:PORT"
        raise CommandError(f"{flag}: {url!r} is no URL of the form {forms}")
    model = found["model"] or (declared.model if declared is not None else "")
    if not model:
        raise CommandError(f"{flag}: name the model too, as URL#MODEL")
    speaks_triton = found["url"].startswith("grpc")
    if found["template"] is not None and not speaks_triton:
        raise CommandError(f"{flag}: chatTemplate belongs to grpc:// and grpcs://")
    triton = _options(flag, found["template"], declared) if speaks_triton else None
    try:
        return ExternalModel(
            protocol="Triton" if speaks_triton else "OpenAI",
            url=found["url"],
            model=model,
            triton=triton,
        )
    except pydantic.ValidationError as exc:
        raise CommandError(f"{flag}: {exc.errors(include_url=False)[0]['msg']}") from exc


def _options(flag: str, template: str | None, declared: InlineServer | None) -> TritonOptions:
    """Return how a model on Triton is asked: as the job says of its server, or as the flag does."""
    said = declared.triton if declared is not None else None
    options = said or TritonOptions()
    if template is None:
        return options
    if template not in get_args(BuiltInTemplate):
        known = ", ".join(get_args(BuiltInTemplate))
        raise CommandError(f"{flag}: {template!r} is no built-in chat template; there are {known}")
    chat_template = ChatTemplate.model_validate({"builtIn": template})
    return options.model_copy(update={"chat_template": chat_template})
