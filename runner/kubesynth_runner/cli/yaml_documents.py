"""YAML as Kubernetes reads it, with the line of every field. Pure.

Where PyYAML and the API server's reader differ, the server's way is taken: a key that occurs twice
is an error, dates stay text, and `1e-3` is a number.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

_TIMESTAMP_TAG = "tag:yaml.org,2002:timestamp"
_FLOAT_TAG = "tag:yaml.org,2002:float"


class ManifestSyntaxError(Exception):
    """Text that is no YAML; the message begins with file and line."""


@dataclasses.dataclass(frozen=True, slots=True)
class YamlDocument:
    """One document: its value, and the line (from 1) of each field by its path."""

    value: Any
    lines: Mapping[str, int]

    def line_of(self, path: str) -> int:
        """Return the line of a field, or of the nearest field above it that is written down."""
        while path and path not in self.lines:
            path = re.sub(r"(\.[^.\[\]]*|\[[^\]]*\]|^[^.\[\]]+)$", "", path)
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as the API server does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP_TAG]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _FLOAT_TAG, re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(text: str, source: str) -> list[YamlDocument]:
    """Read all documents of a stream; empty ones are left out.

    Raises:
        ManifestSyntaxError: it is no YAML, or a key occurs twice.
    """
    documents = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            if node is None:
                break
            lines = dict(_lines(node, "", source))
            value = loader.construct_document(node)
            if value is not None:
                documents.append(YamlDocument(value, lines))
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ManifestSyntaxError(f"{where}: no valid YAML: {exc.problem or exc.context}") from exc
    except RecursionError as exc:
        raise ManifestSyntaxError(f"{source}: no valid YAML: nested too deeply") from exc
    except yaml.YAMLError as exc:
        raise ManifestSyntaxError(f"{source}: no valid YAML: {exc}") from exc
    return documents


def _lines(node: yaml.Node, path: str, source: str) -> Iterator[tuple[str, int]]:
    """Yield the path and line of a node and of everything below it, keys twice given refused."""
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _lines(item, f"{path}[{index}]", source)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ManifestSyntaxError(f"{source}:{line}: the key {name!r} occurs twice")
            seen.add(name)
            below = f"{path}.{name}" if path else name
            yield from _lines(value, below, source)
            yield below, line
