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
# In one process the operator's tests would go on when all others are done. These are two fifths of
# them, and worth a second API server.
_APART = "operator, apart"
_SET_APART = {
    ("operator", f"test_{name}.py")
    for name in ("crash_points", "process", "queue", "server_groups")
}
_SCOPES_IN_ORDER = (_APART, *_WHOLE_FOLDERS)


def scope_of(nodeid: str) -> str:
    """Return what a test is scheduled with: its folder, its part of a folder, or its file."""
    file = PurePosixPath(nodeid.partition("::")[0])
    folder = file.parent.name
    if (folder, file.name) in _SET_APART:
        return _APART
    return folder if folder in _WHOLE_FOLDERS else str(file)


def place_of(nodeid: str) -> int:
    """Return a test's place: what cannot be divided comes first, so that none is left over last."""
    scope = scope_of(nodeid)
    known = _SCOPES_IN_ORDER
    return known.index(scope) if scope in known else len(known)


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
