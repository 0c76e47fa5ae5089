"""YAML, read by libyaml: what Helm renders is half a megabyte, and PyYAML takes a second for it."""

from __future__ import annotations

from typing import Any

import yaml


def load(text: str) -> Any:
    """Return the one document of a text."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def load_all(text: str) -> list[Any]:
    """Return the documents of a text, without the empty ones."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each is not None]
