"""Field paths as people read them in a manifest: `spec.models[0].external.apiKey`."""

from __future__ import annotations

from collections.abc import Iterator

from kubesynth_api._base import ApiModel


def walk(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield `value` and everything that is set below it, each with its path, parents first.

    Maps are yielded whole, without their entries: their keys are the user's, not the API's.
    """
    yield path, value
    if isinstance(value, ApiModel):
        for name, field in type(value).model_fields.items():
            child = getattr(value, name)
            if child is not None:
                yield from walk(child, f"{path}.{field.alias or name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from walk(item, f"{path}[{index}]")
