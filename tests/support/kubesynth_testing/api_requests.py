"""Single requests to an API server, with control over what kubectl decides by itself.

Reads what the server says about each field, instead of kubectl's summary of it.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import ssl
import urllib.parse
from typing import Any, Literal

from kubesynth_testing.apiserver import ApiServer

FieldValidation = Literal["Strict", "Ignore"]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered: an object, or a refusal (metav1.Status)."""

    status_code: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the request was carried out."""
        return self.status_code < http.client.BAD_REQUEST

    @property
    def message(self) -> str:
        """The refusal as kubectl would print it; empty if there is none."""
        return str(self.body.get("message", "")) if not self.accepted else ""

    def causes(self) -> dict[str, str]:
        """Return what is said about each field, by its path."""
        said: dict[str, str] = {}
        for cause in (self.body.get("details") or {}).get("causes") or ():
            field = str(cause.get("field", ""))
            said[field] = f"{said.get(field, '')} {cause.get('message', '')}"
        return said


class ApiRequests:
    """A connection to an API server as its administrator."""

    def __init__(self, server: ApiServer) -> None:
        host = urllib.parse.urlsplit(server.url).netloc
        context = ssl.create_default_context(cafile=str(server.ca_file))
        self._connection = http.client.HTTPSConnection(host, context=context, timeout=60)
        self._token = server.token

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, **query: str
    ) -> Answer:
        """Send one request and return its answer, whatever it is."""
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body)
        self._connection.request(method, target, content, headers)
        response = self._connection.getresponse()
        return Answer(response.status, json.loads(response.read()))
