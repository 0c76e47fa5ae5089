"""URIs of inputs, outputs and models, taken apart in one place for everybody who reads them."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

Scheme = Literal["pvc", "configmap", "file", "s3", "gs", "az", "http", "https"]
SCHEMES: tuple[Scheme, ...] = ("pvc", "configmap", "file", "s3", "gs", "az", "http", "https")
_PATTERN_CHARACTERS = frozenset("*?[")
# /v1, /v1beta/openai, /openai/v1, /api/v3: the version of an API, as a part of its path.
_VERSION = re.compile(r"/v[0-9][a-z0-9]*(/|$)")
# Their requests go to URL/chat/completions without a version, or with one if it is there.
_HOSTS_WITHOUT_VERSION = frozenset(
    {
        "api.deepseek.com",
        "api.perplexity.ai",
        "models.github.ai",
        "models.inference.ai.azure.com",
    }
)
_PATH_WITHOUT_VERSION = "/serving-endpoints"  # Databricks
_GEMINI_HOST, _GEMINI_PATH = "generativelanguage.googleapis.com", "/v1beta/openai"
_AZURE_HOST = re.compile(r"\.(openai|cognitiveservices|services\.ai)\.azure\.(com|us|cn)$")
_OLLAMA_PORT = ":11434"
_HOME = "~ is not expanded; write the path in full (file:///home/...), or relative to the manifest"


class UriError(ValueError):
    """A URI that has no known scheme, or lacks its name or path."""


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """A URI in parts.

    `name` is the volume claim, ConfigMap, bucket or host, and empty for files. `path` is what
    follows: a key for configmap, a path without its leading slash for pvc and object stores, and
    the path itself for files.
    """

    scheme: Scheme
    name: str
    path: str

    @property
    def is_pattern(self) -> bool:
        """Whether the path names many files by *, ? or [...]."""
        return not _PATTERN_CHARACTERS.isdisjoint(self.path)

    @property
    def is_relative_file(self) -> bool:
        """Whether it is a file whose path depends on where one stands."""
        return self.scheme == "file" and not self.path.startswith("/")

    @property
    def fixed_path(self) -> str:
        """The path up to its first folder that is a pattern: `docs` of `docs/**/*.md`."""
        parts = self.path.split("/")
        for index, part in enumerate(parts):
            if not _PATTERN_CHARACTERS.isdisjoint(part):
                return "/".join(parts[:index])
        return self.path


def path_advice(uri: str) -> str:
    """Return what to write for a local path that only a shell would take; "" for other URIs."""
    if uri.removeprefix("file://").startswith("~"):
        return f"{uri}: {_HOME}"
    if "://" not in uri and not uri.startswith("/"):
        return f"{uri}: for a local path write file://{uri}, which is relative to the manifest"
    return ""


def version_advice(url: str) -> str:
    """Return what `url` of an OpenAI-compatible server may lack; "" if it looks as it should.

    That is an API's version, wherever in its path, but for those that are known to have none, or to
    have it at a place of their own.
    """
    base = url.rstrip("/")
    found = re.match(r"(?P<root>https?://(?P<host>[^/:]*)(?P<port>:\d+)?)(?P<path>.*)", base)
    if found is None:
        return ""
    root, host, path = found["root"], found["host"].lower(), found["path"]
    has_version = _VERSION.search(path) is not None
    says, suggested = "has no /v1, which nearly all servers want", f"{base}/v1"
    if host == _GEMINI_HOST:
        has_version = has_version and path.endswith("/openai")
        says, suggested = "is not Gemini's API for OpenAI's clients", root + _GEMINI_PATH
    elif _AZURE_HOST.search(host):
        says = "has no version of Azure's API: give azure.apiVersion, or the path of its newer API"
        suggested = f"{root}/openai/v1"
    elif path == "/api" and found["port"] == _OLLAMA_PORT:
        says, suggested = "is Ollama's own API, and not OpenAI's", f"{root}/v1"
    needs_none = host in _HOSTS_WITHOUT_VERSION or path.endswith(_PATH_WITHOUT_VERSION)
    if has_version or needs_none:
        return ""
    return f"{url} {says}: is it {suggested}? Requests go to {base}/chat/completions"


def parse(uri: str) -> Location:
    """Take `uri` apart. A bare absolute path is a file.

    Raises:
        UriError: the scheme is unknown, or a part is missing.
    """
    if uri.startswith("/"):
        return Location("file", "", uri)
    head, separator, rest = uri.partition("://")
    scheme = next((known for known in SCHEMES if known == head), None)
    if not separator or scheme is None:
        expected = ", ".join(f"{known}://" for known in SCHEMES)
        raise UriError(f"{uri!r} starts with none of {expected} and /")
    if scheme == "file":
        if not rest:
            raise UriError(f"{uri!r} has no path")
        return Location(scheme, "", rest)
    name, _, path = rest.partition("/")
    if not name or (not path and scheme in ("pvc", "configmap")):
        raise UriError(
            f"{uri!r} is not {scheme}://NAME/{'KEY' if scheme == 'configmap' else 'PATH'}"
        )
    return Location(scheme, name, path)
