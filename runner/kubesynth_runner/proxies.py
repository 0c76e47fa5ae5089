"""The proxy on the way to a server, as the environment names it."""

from __future__ import annotations

import urllib.request


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the URL of the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name; None for none.

    HOST:PORT alone is taken for http://HOST:PORT, as curl does.
    """
    if urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
