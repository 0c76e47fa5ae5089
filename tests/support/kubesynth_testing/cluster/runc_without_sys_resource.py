"""Run as a program: runc for a host that lacks CAP_SYS_RESOURCE.

Docker asks for every capability when a container is privileged, as kind's nodes are, and runc
refuses the container when one of them cannot be had. This takes the one out of what is asked for,
then becomes runc. Arguments: the path of runc, then runc's own arguments.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

_MISSING = "CAP_SYS_RESOURCE"


def option(arguments: list[str], *names: str) -> str | None:
    """Return the value of `--name value` or `--name=value`, None without it."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else arguments[position + 1]
    return None


def without_missing(process: dict[str, Any]) -> dict[str, Any]:
    """Return an OCI process without the capability in any of its sets.

    The shape is the `process` object of the OCI runtime specification's config.md.
    """
    sets = process.get("capabilities") or {}
    kept = {name: [cap for cap in caps or [] if cap != _MISSING] for name, caps in sets.items()}
    return {**process, "capabilities": kept}


def _rewrite(path: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    with open(path) as source:
        document = json.load(source)
    with open(path, "w") as target:
        json.dump(change(document), target)


def _without_missing_in_bundle(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "process": without_missing(config.get("process", {}))}


def main() -> None:
    """Rewrite what the runc call is about to read, and become runc."""
    runc, *arguments = sys.argv[1:]
    if "create" in arguments or "run" in arguments:
        bundle = option(arguments, "--bundle", "-b") or "."
        _rewrite(os.path.join(bundle, "config.json"), _without_missing_in_bundle)
    elif "exec" in arguments and (process := option(arguments, "--process", "-p")):
        _rewrite(process, without_missing)
    os.execv(runc, [runc, *arguments])


if __name__ == "__main__":
    main()
