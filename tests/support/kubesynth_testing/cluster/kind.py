"""The cluster itself: kind with one control plane and two workers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from kubesynth_testing.cluster import (
    binaries,
    docker_daemon,
    host,
    image_transfer,
    locks,
    node_image,
    paths,
    pod_network,
    recipe,
    shared_volumes,
)
from kubesynth_testing.cluster.docker_client import Docker
from kubesynth_testing.cluster.progress import say, step
from kubesynth_testing.cluster.shell import SHORT_LIVED, CommandError, Shell

NAME = "kubesynth"
WORKERS = (f"{NAME}-worker", f"{NAME}-worker2")
NODES = (f"{NAME}-control-plane", *WORKERS)

_READY_SECONDS = 180


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that runs.

    Attributes:
        kubeconfig: The administrator's kubeconfig.
        kubectl_program: A kubectl of the cluster's version.
    """

    kubeconfig: Path
    kubectl_program: Path

    def kubectl(
        self, *arguments: str | Path, stdin: str | None = None, timeout_seconds: float = 120
    ) -> str:
        """Run kubectl as the administrator and return what it prints.

        Raises:
            CommandError: kubectl failed; its `output` has the message.
        """
        command = (self.kubectl_program, "--kubeconfig", self.kubeconfig, *arguments)
        return SHORT_LIVED.run(*command, stdin=stdin, timeout_seconds=timeout_seconds)


def kubeconfig() -> Path:
    """Return where the cluster's kubeconfig is written."""
    return paths.cache_folder("cluster") / "kubeconfig"


def up() -> Cluster:
    """Return the cluster; it is made if it does not run, and made anew if it is not whole.

    Raises:
        NoDockerError: There is no Docker daemon and none can be started.
        CommandError: A step failed; the message has the last lines of its output.
    """
    with locks.file_lock(paths.cache_folder("cluster") / "lock"):
        docker = docker_daemon.connect()
        running = _running(docker)
        if running is not None:
            say("the cluster runs already")
            return running
        image = choose_node_image(docker)
        _delete(docker)
        return _create(docker, image)


def find() -> Cluster | None:
    """Return the cluster if it runs and is whole, without starting anything."""
    docker = docker_daemon.find()
    return None if docker is None else _running(docker)


def down(*, purge: bool = False) -> None:
    """Delete the cluster, and stop the Docker daemon if the harness started it.

    Args:
        purge: Also delete the images of that daemon.
    """
    with locks.file_lock(paths.cache_folder("cluster") / "lock"):
        docker = docker_daemon.find()
        if docker is not None:
            _delete(docker)
            if docker.owned:
                _tidy(docker)
        docker_daemon.stop(purge=purge)


def load_images(docker: Docker, *images: str) -> None:
    """Copy images to the workers; the control plane runs no pods of the tests."""
    with step(f"load {' and '.join(images)} into the workers"):
        image_transfer.copy(docker, images, WORKERS)


def load_missing_images(docker: Docker, *images: str) -> None:
    """Copy images whose names tell their content to the workers, unless all of them are there."""
    if any(image_transfer.nodes_without(docker, image, WORKERS) for image in images):
        load_images(docker, *images)


def choose_node_image(docker: Docker) -> str:
    """Return the image of the nodes: ours if it is built or must be, else kind's stock image."""
    if docker.has_image(node_image.tag()):
        return node_image.tag()
    stock = recipe.STOCK_NODE_IMAGE
    if docker.has_image(stock) or docker.can_pull(stock):
        return stock
    say(f"{stock} cannot be pulled: the nodes run an image of our own")
    return node_image.ensure(docker)


def _create(docker: Docker, image: str) -> Cluster:
    cluster = Cluster(kubeconfig(), binaries.ensure(["kubectl", "kind"]) / "kubectl")
    own_image = image == node_image.tag()
    with step("create the cluster (kind: one control plane, two workers)"):
        shared = paths.cache_folder("cluster", "shared")
        configuration = kind_configuration(own_image=own_image, shared=shared)
        _kind(
            docker,
            *("create", "cluster", "--name", NAME, "--image", image, "--config", "-"),
            *("--kubeconfig", str(cluster.kubeconfig)),
            stdin=json.dumps(configuration),
        )
    with step("wait until the nodes are Ready"):
        if own_image:
            pod_network.configure(docker, cluster.kubectl, nodes=len(NODES))
        provide_volumes(docker, cluster)
        timeout = f"--timeout={_READY_SECONDS}s"
        cluster.kubectl("wait", "--for=condition=Ready", "nodes", "--all", timeout)
        for namespace in ("kube-system", "local-path-storage"):
            cluster.kubectl(
                *("wait", "--for=condition=Available", "deployments", "--all"),
                *("-n", namespace, timeout),
                timeout_seconds=_READY_SECONDS + 10,
            )
    return cluster


def kind_configuration(*, own_image: bool, shared: Path) -> dict[str, object]:
    """Return kind's configuration, with the settings that this host needs.

    Args:
        own_image: The nodes run our image, which brings no pod network of kind's.
        shared: A folder of this host that all nodes mount.
    """
    mounts = [{"hostPath": str(shared), "containerPath": shared_volumes.PATH}]
    roles = ("control-plane", "worker", "worker")
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {
            "kubeProxyMode": "iptables",
            "disableDefaultCNI": own_image,
            "podSubnet": pod_network.POD_SUBNET,
            "serviceSubnet": pod_network.SERVICE_SUBNET,
        },
        "nodes": [{"role": role, "extraMounts": mounts} for role in roles],
        "kubeadmConfigPatches": [json.dumps(patch) for patch in _kubeadm_patches()],
    }


def _kubeadm_patches() -> list[dict[str, object]]:
    kubelet: dict[str, object] = {"kind": "KubeletConfiguration"}
    proxy: dict[str, object] = {"kind": "KubeProxyConfiguration"}
    if host.has_cgroup_v1():
        kubelet["failCgroupV1"] = False
    if not host.holds_sys_resource():
        # Neither a lower oom_score_adj nor a higher limit of open files can be had.
        kubelet |= {"oomScoreAdj": 0, "maxOpenFiles": 20000}
        proxy["oomScoreAdj"] = 0
    variables = [{"name": name, "value": value} for name, value in recipe.FEWER_COLLECTIONS.items()]
    control_plane = ("apiServer", "controllerManager", "scheduler")
    programs: dict[str, object] = {
        "kind": "ClusterConfiguration",
        **{program: {"extraEnvs": variables} for program in control_plane},
        "etcd": {"local": {"extraEnvs": variables}},
    }
    return [patch for patch in (kubelet, proxy, programs) if len(patch) > 1]


def provide_volumes(docker: Docker, cluster: Cluster) -> None:
    """See to it that there are shared volumes for a session of tests to claim."""
    shared_volumes.provide(docker, cluster.kubectl, NODES[0])


def _running(docker: Docker) -> Cluster | None:
    """Return the cluster if its nodes run and its API server says that all of them are Ready.

    An API server that refuses connections is not waited for; a slow one is, since a busy host must
    not cost other sessions their cluster.
    """
    names = docker.run("ps", "--format", "{{.Names}}").split()
    if not set(NODES) <= set(names) or not kubeconfig().exists():
        return None
    cluster = Cluster(kubeconfig(), binaries.ensure(["kubectl", "kind"]) / "kubectl")
    ready = ("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=60s")
    try:
        cluster.kubectl(*ready, timeout_seconds=90)
    except CommandError:
        return None
    return cluster


def _delete(docker: Docker) -> None:
    """Delete the cluster's nodes, if there are any, and what they shared."""
    filters = ("--filter", f"label=io.x-k8s.kind.cluster={NAME}")
    nodes = docker.run("ps", "--all", "--quiet", *filters).split()
    if nodes:
        with step("delete the cluster"):
            # Pods wrote there under ids that this user may not be allowed to delete.
            empty = f"find {shared_volumes.PATH} -mindepth 1 -delete"
            Shell(env=docker.env).succeeds(docker.program, "exec", nodes[0], "sh", "-c", empty)
            _kind(docker, "delete", "cluster", "--name", NAME)
    kubeconfig().unlink(missing_ok=True)


def _tidy(docker: Docker) -> None:
    """Remove kind's network and what the image cache holds in vain."""
    Shell(env=docker.env).succeeds(docker.program, "network", "rm", "kind")
    docker.run("image", "prune", "--force")
    docker.run("builder", "prune", "--force", "--keep-storage", "2GB")


def _kind(docker: Docker, *arguments: str, stdin: str | None = None) -> str:
    program = binaries.ensure(["kind"]) / "kind"
    # The kubeconfig of the user is never written to.
    env = {**docker.env, "KUBECONFIG": str(kubeconfig())}
    return Shell(env=env).run(program, *arguments, stdin=stdin)
