"""Finds a Docker daemon, or starts one of its own where none runs.

The daemon of the user is used as it is. A daemon that the harness starts keeps to itself: socket,
data and containerd lie in the cache folder, it makes no docker0 bridge, and its containers share
one cgroup. It outlives the process that started it and is stopped by its process id.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from kubesynth_testing.cluster import docker_client, host, host_state, locks, paths
from kubesynth_testing.cluster.docker_client import Docker
from kubesynth_testing.cluster.progress import say, step
from kubesynth_testing.cluster.shell import Shell

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
_LOG_TAIL_CHARACTERS = 3000

_PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "runc": "runc",
    "iptables": "iptables",
    "setsid": "util-linux",
}


class NoDockerError(RuntimeError):
    """There is no Docker daemon, and none can be started."""


class DockerStartError(RuntimeError):
    """The daemon that the harness started did not answer; the message has its last lines."""


def folder() -> Path:
    """Return the folder of the harness's own daemon: socket, data, log, process id."""
    return paths.cache_folder("docker")


def cgroup() -> str:
    """Return the name of the cgroup of its containers: no other daemon's, so it may be removed."""
    return f"kubesynth-{hashlib.sha256(str(folder()).encode()).hexdigest()[:8]}"


def connect() -> Docker:
    """Return the daemon of the harness if it runs, else the user's, else start one.

    Raises:
        NoDockerError: None runs, and only root can start one.
        NoBuildKitError: No client can build, not even that of the package.
        DockerStartError: The daemon did not answer in time.
    """
    running = find()
    if running is not None:
        return running
    if not host.is_root():
        docker_client.require_program()
        raise NoDockerError("no Docker daemon answers; start Docker, or run this as root")
    host.require_programs(_PACKAGES)
    docker_client.find_program.cache_clear()
    docker_client.require_program()
    with locks.file_lock(folder() / "start.lock"):
        return find() or _start()


def find() -> Docker | None:
    """Return the daemon that `connect` would use without starting one."""
    own = own_daemon()
    if own is not None:
        return own
    program = docker_client.find_program()
    if program is None:
        return None
    docker = Docker(program, None, owned=False)
    return docker if docker.answers() else None


def own_daemon() -> Docker | None:
    """Return the harness's own daemon if it runs.

    A daemon whose process lives is waited for: on a busy host it may be slow to answer, and to take
    it for dead would end the cluster in it.

    Raises:
        DockerStartError: The process lives and does not answer.
    """
    program = docker_client.find_program()
    deadline = time.monotonic() + _START_SECONDS
    while program is not None and _pid() is not None:
        docker = Docker(program, f"unix://{folder() / 'docker.sock'}", owned=True)
        if docker.answers():
            return docker
        if time.monotonic() > deadline:
            raise DockerStartError(f"dockerd (process {_pid()}) does not answer:\n{_log_tail()}")
        time.sleep(_POLL_SECONDS)
    return None


def _start() -> Docker:
    """Start a daemon and wait until it answers."""
    base = folder()
    with step("start a Docker daemon"):
        _forget_dead_daemon()
        host_state.HostState.observe().save(base / "host-before.json")
        (base / "daemon.json").write_text(json.dumps(_configuration(base), indent=1))
        log = shlex.quote(str(base / "dockerd.log"))
        # A start in the background at low priority must not slow every container down.
        priority = ["nice", "-n", str(-os.nice(0))]
        daemon = shlex.join([*priority, "dockerd", "--config-file", str(base / "daemon.json")])
        # A process of its own session, with nothing of ours open: it outlives this one.
        Shell().run("setsid", "--fork", "sh", "-c", f"exec {daemon} >{log} 2>&1 </dev/null")
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            docker = own_daemon()
            if docker is not None:
                return docker
            time.sleep(_POLL_SECONDS)
    raise DockerStartError(f"dockerd did not start in {_START_SECONDS:.0f} s:\n{_log_tail()}")


def _log_tail() -> str:
    return (folder() / "dockerd.log").read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]


def _configuration(base: Path) -> dict[str, object]:
    """Return dockerd's configuration file."""
    configuration: dict[str, object] = {
        "hosts": [f"unix://{base / 'docker.sock'}"],
        "data-root": str(base / "data"),
        "exec-root": str(base / "exec"),
        "pidfile": str(base / "dockerd.pid"),
        "bridge": "none",
        "cgroup-parent": cgroup(),
    }
    if not host.holds_sys_resource():
        configuration["runtimes"] = {"without-sys-resource": {"path": str(_write_runtime(base))}}
        configuration["default-runtime"] = "without-sys-resource"
    return configuration


def _write_runtime(base: Path) -> Path:
    """Write the program that dockerd calls as runc on a host without CAP_SYS_RESOURCE."""
    script = Path(__file__).with_name("runc_without_sys_resource.py")
    # Not the interpreter of a virtual environment, which may be deleted under the daemon.
    python = Path(sys.executable).resolve()
    runc = shutil.which("runc") or "runc"
    runtime = base / "runc"
    command = shlex.join([str(python), "-I", "-S", str(script), runc])
    runtime.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    runtime.chmod(0o755)
    return runtime


def stop(*, purge: bool = False) -> None:
    """Stop the harness's own daemon, if one runs, and undo what it did to the host.

    Args:
        purge: Also delete its images. They are kept by default: a next start needs them.
    """
    base = folder()
    pid = _pid()
    if pid is not None:
        with step("stop the Docker daemon"):
            _end(pid)
    _forget_dead_daemon()
    if purge and (base / "data").exists():
        with step("delete the images of the Docker daemon"):
            shutil.rmtree(base / "data")


def _end(pid: int, *, first: signal.Signals = signal.SIGTERM) -> None:
    """End a process: with a first signal, and by force when it does not end in time."""
    for number in (first, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            if not host_state.command_line(pid):
                return
            time.sleep(_POLL_SECONDS)
        say(f"process {pid} ignored {number.name}")


def _forget_dead_daemon() -> None:
    """Undo what a daemon that no longer runs did to the host: mounts, iptables rules, cgroups."""
    base = folder()
    before = base / "host-before.json"
    for pid in host_state.processes(base, cgroup()):
        _end(pid, first=signal.SIGKILL)  # containerd and containers of a daemon that was killed
    host_state.unmount_under(base / "exec")
    host_state.unmount_under(base / "data")
    if before.exists():
        host_state.restore(host_state.HostState.load(before))
        before.unlink()
    host_state.remove_cgroups(cgroup())
    for name in ("docker.sock", "dockerd.pid"):
        (base / name).unlink(missing_ok=True)
    shutil.rmtree(base / "exec", ignore_errors=True)


def _pid() -> int | None:
    """Return the process id of the harness's own daemon, None when it does not run."""
    try:
        pid = int((folder() / "dockerd.pid").read_text())
    except (OSError, ValueError):
        return None
    return pid if "dockerd" in host_state.command_line(pid) else None
