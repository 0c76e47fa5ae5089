"""Finding out what a server understands, from one tiny completion. Pure.

The prompt asks for nothing in JSON, so an answer in JSON shows that the server constrains decoding,
not that the model is polite.
"""

from __future__ import annotations

import json
import re

from kubesynth_runner.llm import json_schemas
from kubesynth_runner.llm.base import (
    CUT_OFF,
    Completion,
    CompletionRequest,
    JsonSchemaFormat,
    Message,
)
from kubesynth_runner.llm.errors import ClientError, ErrorKind

PROBE_MAX_TOKENS = 16
_MESSAGES = (Message("user", "Is the sky blue?"),)
_SCHEMA = {
    "type": "object",
    "properties": {
        "ok": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 1}
    },
    "required": ["ok"],
    "additionalProperties": False,
}
_FORMAT = JsonSchemaFormat("probe", _SCHEMA, bounds_are_told=True)
# A reward model refuses a conversation without an answer.
REWARD_REQUEST = CompletionRequest((*_MESSAGES, Message("assistant", "Yes, on a clear day.")))
# What a server that does not know response_format answers to it: most 400 or 422, llama-cpp-python
# 500. Everything else is about the server, not the field.
UNSUPPORTED_KINDS = frozenset(
    {ErrorKind.BAD_REQUEST, ErrorKind.SCHEMA_REFUSED, ErrorKind.SERVER_ERROR}
)
# Without white space, from the list on.
_BEGINNING = re.compile(
    r'\{"ok":\[(?:(?:true|false),)*(?:t|tr|tru|true|f|fa|fal|fals|false)?(?:(?<=e)\]\}?)?'
)


def probe_request(
    *, constrained: bool, bounds: bool = True, limit_field: str = "max_tokens"
) -> CompletionRequest:
    """Return the tiny request, with a schema (and `bounds` in it) or without one.

    `limit_field` is `max_completion_tokens` for models that refuse the older name.
    """
    return CompletionRequest(
        messages=_MESSAGES,
        sampling={limit_field: PROBE_MAX_TOKENS},
        response_format=json_schemas.for_server(_FORMAT, bounds=bounds) if constrained else None,
    )


def wants_other_limit_field(error: ClientError) -> bool:
    """Tell whether a server refused `max_tokens` in favour of `max_completion_tokens`."""
    return error.kind is ErrorKind.BAD_REQUEST and "max_completion_tokens" in str(error)


def is_constrained(completion: Completion) -> bool:
    """Tell whether the probe's completion was held to the schema.

    It may have been cut off: then the beginning of a document that fits is enough. A server that
    takes no notice of `maxItems` may give a longer list.
    """
    try:
        said = json.loads(completion.text).get("ok")
        return isinstance(said, list) and all(isinstance(value, bool) for value in said)
    except (ValueError, AttributeError):
        compact = "".join(completion.text.split())
    return bool(
        compact
        and completion.finish_reason in CUT_OFF
        and ('{"ok":['.startswith(compact) or _BEGINNING.fullmatch(compact))
    )


def was_cut_off(error: ClientError) -> bool:
    """Tell whether the completion was all reasoning, so that nothing is known of its text.

    The server took the field without complaint, which those that lack it do not.
    """
    return error.kind is ErrorKind.EMPTY_COMPLETION


def not_served(model: str, served: tuple[str, ...], url: str) -> ClientError:
    """Return the error for a model that is not in the server's list."""
    shown = ", ".join(served[:10]) + (f" and {len(served) - 10} more" if len(served) > 10 else "")
    return ClientError(
        ErrorKind.MODEL_NOT_FOUND, f"{url} does not serve the model {model!r}; it serves {shown}"
    )
