"""The cluster's API over plain HTTP, for what is asked often.

A kubectl costs a tenth of a second of CPU time, and twenty scenarios that wait ask a lot. One
`kubectl proxy` brings the credentials, whatever kubeconfig they come from.
"""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesynth_testing.cluster.kind import Cluster

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Api:
    """The API server behind a proxy at `origin`."""

    origin: str

    def get(self, path: str) -> Any:
        """GET a path and return the JSON document.

        Raises:
            urllib.error.HTTPError: the API server, or what is behind it, said no.
        """
        return self._send(urllib.request.Request(self.origin + path))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """POST a JSON document and return the one that comes back.

        Raises:
            urllib.error.HTTPError: the API server, or what is behind it, said no.
        """
        headers = {"Content-Type": "application/json"}
        content = json.dumps(body).encode()
        return self._send(urllib.request.Request(self.origin + path, content, headers))

    def _send(self, request: urllib.request.Request) -> Any:
        # Never through a proxy that the environment names: this is a loopback address.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
            return json.loads(response.read())


@contextmanager
def serve(cluster: Cluster, log: Path) -> Iterator[Api]:
    """Run the proxy on a free loopback port for the length of a `with` block."""
    command = (cluster.kubectl_program, "--kubeconfig", cluster.kubeconfig, "proxy", "--port=0")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            address = re.search(r"127\.0\.0\.1:\d+", process.stdout.readline())
            if address is None:
                raise RuntimeError(f"kubectl proxy did not start: {log.read_text()}")
            yield Api(f"http://{address[0]}")
        finally:
            process.terminate()
