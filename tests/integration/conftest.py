"""Tests against real servers on loopback."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler.protocol import Scheduling

_HERE = Path(__file__).parent

# Their tests share servers that take seconds to start; those of other folders share little.
_WHOLE_FOLDERS = ("operator", "llm", "triton", "object_stores", "api", "helm")


def scope_of(nodeid: str) -> str:
    """Return what a test is scheduled with: its folder, or its file."""
    file = PurePosixPath(nodeid.partition("::")[0])
    return file.parent.name if file.parent.name in _WHOLE_FOLDERS else str(file)


def place_of(nodeid: str) -> int:
    """Return a test's place: what cannot be divided comes first, so that none is left over last."""
    scope = scope_of(nodeid)
    return _WHOLE_FOLDERS.index(scope) if scope in _WHOLE_FOLDERS else len(_WHOLE_FOLDERS)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Give the tests of a folder that shares servers to one process, and others file by file.

    Marks and `--dist=loadgroup` do nothing: xdist 3.8 hands marks on by changing node ids, and
    those of pytest 9.2 stay as they are.
    """
    config.option.loadscopereorder = False  # by how many tests there are, however long they take
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = scope_of
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # A path names the folder of these tests whatever else is collected with them.
    items.sort(key=lambda item: place_of(item.nodeid) if _HERE in item.path.parents else -1)
