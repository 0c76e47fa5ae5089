"""Requests to the API server as plain JSON: verbs in, dicts out, typed errors.

Uses the official client for what is hard (credentials of all kinds, their renewal, TLS) and not for
its models: every object here is a dict, as it came. No request is retried; the work queue does
that, with the whole picture looked at anew.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio import config as kubernetes_config

from kubesynth_api.labels import FIELD_MANAGER
from kubesynth_api.version import VERSION
from kubesynth_operator.kube import errors
from kubesynth_operator.kube.resources import Resource

Object = dict[str, Any]

# The client's loaders carry no types.
_load_kube_config: Callable[..., Awaitable[object]] = kubernetes_config.load_kube_config
_load_incluster_config: Callable[..., None] = kubernetes_config.load_incluster_config

_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 30.0
_GOODBYE_SECONDS = 0.1
_JSON = "application/json"
_MERGE_PATCH = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """One request, before credentials."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any] | None = None
    content_type: str = _JSON

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class KubeClient:
    """A connection to one API server. One instance per event loop; `close` it at the end."""

    def __init__(self, configuration: kubernetes_client.Configuration) -> None:
        # Proxies are for the way out of a cluster; kubeconfig's own proxy-url is honoured.
        configuration.client_session_kwargs = {"trust_env": False}
        # Any number: each watched namespace holds several for good, and with a limit there would
        # soon be none left to ask anything.
        configuration.connection_pool_maxsize = 0
        self._api: Any = kubernetes_client.ApiClient(configuration)
        self._api.user_agent = f"kubesynth-operator/{VERSION}"

    @classmethod
    async def connect(cls, kubeconfig: str | None) -> KubeClient:
        """Use a kubeconfig file if given, else the pod's service account."""
        configuration = kubernetes_client.Configuration()
        if kubeconfig is not None:
            await _load_kube_config(
                config_file=kubeconfig, client_configuration=configuration, persist_config=False
            )
        else:
            _load_incluster_config(client_configuration=configuration)
        return cls(configuration)

    async def close(self) -> None:
        """Close connections. Safe to repeat."""
        await self._api.close()
        # Connections of requests that were cut off say goodbye in the background (TLS).
        await asyncio.sleep(_GOODBYE_SECONDS)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return one object.

        Raises:
            NotFoundError: it does not exist.
        """
        return await self._call("GET", resource.path(namespace, name))

    async def list_page(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str]
    ) -> Object:
        """Return one page of a list; `metadata.continue` leads to the next.

        Raises:
            GoneError: the continue token in `query` is too old.
        """
        return await self._call("GET", resource.path(namespace), query=query)

    async def list_all(
        self, resource: Resource, namespace: str | None, *, selector: str, page_size: int
    ) -> AsyncIterator[Object]:
        """Yield every object that `selector` matches (all for an empty one), page by page.

        Raises:
            GoneError: the list took so long that its pages have expired.
        """
        query = {"limit": str(page_size)}
        if selector:
            query["labelSelector"] = selector
        while True:
            page = await self.list_page(resource, namespace, query)
            for item in page.get("items") or ():
                yield item
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    async def create(
        self, resource: Resource, namespace: str | None, manifest: Mapping[str, Any]
    ) -> None:
        """Create an object; namespace None is for kinds of the cluster.

        Raises:
            AlreadyExistsError: the name is taken.
            ForbiddenError: quota, admission or permissions.
            InvalidError: the manifest is not accepted.
        """
        path = resource.path(namespace)
        await self._call("POST", path, body=manifest, query={"fieldManager": FIELD_MANAGER})

    async def apply(self, resource: Resource, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Apply a manifest server-side: what it says is ours, whoever said otherwise before."""
        path = resource.path(namespace, manifest["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        await self._call("PATCH", path, body=manifest, query=query, content_type=_APPLY)

    async def merge_patch(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> None:
        """Patch an object. A `metadata.uid` in the patch is a precondition.

        Raises:
            NotFoundError: it does not exist.
            InvalidError: it is another object of that name (a uid cannot be changed).
        """
        path = resource.path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        await self._call("PATCH", path, body=patch, query=query, content_type=_MERGE_PATCH)

    async def replace(
        self, resource: Resource, namespace: str, manifest: Mapping[str, Any], subresource: str = ""
    ) -> Object:
        """Replace an object, or its status; its resourceVersion is a precondition.

        Raises:
            ConflictError: somebody else was faster.
            NotFoundError: it does not exist.
        """
        path = resource.path(namespace, manifest["metadata"]["name"], subresource)
        return await self._call("PUT", path, body=manifest, query={"fieldManager": FIELD_MANAGER})

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, foreground: bool
    ) -> None:
        """Delete the object with that name and uid.

        Raises:
            NotFoundError: it does not exist.
            ConflictError: it is another object of that name.
        """
        options = {
            "preconditions": {"uid": uid},
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        await self._call("DELETE", resource.path(namespace, name), body=options)

    @asynccontextmanager
    async def watch(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], seconds: float
    ) -> AsyncIterator[AsyncIterator[Object]]:
        """Open a watch of at most `seconds`; the block gets its events as they come.

        Raises:
            GoneError: the resource version in `query` is too old (also while reading events).
            UnavailableError: the connection broke, or was silent for too long.
        """
        request = _Request("GET", resource.path(namespace), {**query, "watch": "true"})
        timeout = aiohttp.ClientTimeout(
            total=seconds + _REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=seconds
        )
        response = await self._send(request, timeout)
        try:
            if response.status >= 300:
                raise errors.from_refusal(f"watch {request.path}", await _refusal(response))
            yield _events(f"watch {request.path}", response)
        finally:
            _hang_up(response)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> Object:
        request = _Request(method, path, query or {}, body, content_type)
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS)
        response = await self._send(request, timeout)
        try:
            async with response:
                if response.status >= 300:
                    raise errors.from_refusal(str(request), await _refusal(response))
                answer: Object = json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as exc:
            raise errors.from_refusal(str(request), _no_answer(exc)) from exc
        return answer

    async def _send(
        self, request: _Request, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Content-Type": request.content_type}
        try:
            arguments = await self._api.param_serialize(
                method=request.method,
                resource_path=request.path,
                query_params=list(request.query.items()),
                header_params=headers,
                body=request.body,
                auth_settings=["BearerToken"],
            )
            answer = await self._api.call_api(*arguments, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise errors.from_refusal(str(request), _no_answer(exc)) from exc
        response: aiohttp.ClientResponse = answer.response
        return response


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Drop a connection that is still sending, without waiting for TLS to say goodbye."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _events(request: str, response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    try:
        async for line in response.content:
            event: Object = json.loads(line)
            if event.get("type") == "ERROR":
                raise errors.from_refusal(request, _from_status(event.get("object") or {}, None))
            yield event
    except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as exc:
        raise errors.from_refusal(request, _no_answer(exc)) from exc


async def _refusal(response: aiohttp.ClientResponse) -> errors.Refusal:
    """Read the Status object that comes with a refusal; a proxy's answer may lack it."""
    retry_after = response.headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isdigit() else None
    try:
        status = json.loads(await response.read())
    except (ValueError, aiohttp.ClientError):
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        return errors.Refusal(response.status, response.reason or "", "no details", seconds)
    return _from_status({**status, "code": response.status}, seconds)


def _from_status(status: Mapping[str, Any], retry_after_seconds: float | None) -> errors.Refusal:
    return errors.Refusal(
        status_code=status.get("code"),
        reason=str(status.get("reason", "")),
        message=str(status.get("message", "")),
        retry_after_seconds=retry_after_seconds,
    )


def _no_answer(exc: Exception) -> errors.Refusal:
    return errors.Refusal(None, type(exc).__name__, str(exc))
