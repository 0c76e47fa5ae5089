"""An interpreter that forks a runner for each line on its standard input, and reports their ends.

A line is {"number": ..., "environment": {...}, "log": path}. Each start is answered by {"pid": ...,
"number": ...} and each end by {"pid": ..., "code": ...} on standard output.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys

from kubesynth_runner.__main__ import main
from kubesynth_testing import deaths


def _become_runner(environment: dict[str, str], log_path: str) -> None:
    """Turn this fork into a runner; does not return."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(environment)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdin.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    deaths.install(environment)
    main()
    os._exit(1)


def _report(**fields: int) -> None:
    print(json.dumps(fields), flush=True)


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _report(pid=pid, code=os.waitstatus_to_exitcode(status))


def serve() -> None:
    """Fork runners until standard input ends."""
    # A fork that collected garbage would copy every page of what is imported.
    gc.collect()
    gc.freeze()
    wake, notify = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(notify)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    orders = b""
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 65536)
            if key.fd == wake:
                _reap()
                continue
            if not data:
                return
            orders += data
        *lines, orders = orders.split(b"\n")
        for line in lines:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _become_runner(order["environment"], order["log"])
            _report(pid=pid, number=order["number"])


if __name__ == "__main__":
    serve()
