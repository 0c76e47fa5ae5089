"""Looks for what a cluster may have left on the host after it was taken down."""

from __future__ import annotations

from kubesynth_testing.cluster import docker_daemon, host_state, kind

_DOCKER_LINKS = ("docker0", "br-", "veth")


def find() -> list[str]:
    """Return one line for each thing that is left; empty on a clean host.

    Only what the harness can have made is looked for. Interfaces and iptables rules are not looked
    at while some Docker daemon runs: they are its own.
    """
    base = docker_daemon.folder()
    found = [
        f"process {pid}: {line}"
        for pid, line in host_state.processes(base, docker_daemon.cgroup()).items()
    ]
    found += [f"mount {point}" for point in host_state.mounts_under(base)]
    found += [f"cgroup {path}" for path in host_state.cgroups(docker_daemon.cgroup())]
    docker = docker_daemon.find()
    if docker is not None and not docker.owned:
        names = docker.run("ps", "--all", "--format", "{{.Names}}").split()
        found += [f"container {name}" for name in names if name in kind.NODES]
    if host_state.runs_docker():
        return found
    state = host_state.HostState.observe()
    found += [f"network interface {n}" for n in state.links if n.startswith(_DOCKER_LINKS)]
    found += [f"network namespace {n}" for n in state.namespaces if n.startswith("cni-")]
    for table, lines in state.iptables.items():
        rules = [line for line in lines if host_state.is_dockers(line)]
        found += [f"iptables rule in {table}: {rule}" for rule in rules]
    return found
