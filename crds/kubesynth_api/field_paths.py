"""Field paths as people read them in a manifest: `spec.models[0].external.apiKey`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def of_location(location: Sequence[int | str], root: str = "") -> str:
    """Return the path of one of pydantic's errors, which was found in what is at `root`."""
    path = root
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":  # pydantic's mark for a bad key, which stands before it
            path += f".{part}" if path else part
    return path
