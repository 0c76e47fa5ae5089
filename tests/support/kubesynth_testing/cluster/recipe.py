"""Which programs the cluster is made of, and the key under which their builds are kept."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from kubesynth_testing.cluster import paths

GO_SOURCE = paths.FILES / "go"
"""The Go module that requires every program; its go.mod is the one list of versions."""

_KUBERNETES = "k8s.io/kubernetes/cmd/"
_CONTAINERD = "github.com/containerd/containerd/v2/cmd/"
_CNI = "github.com/containernetworking/plugins/plugins/"

PACKAGES: dict[str, str] = {
    "kube-apiserver": _KUBERNETES + "kube-apiserver",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kubectl": _KUBERNETES + "kubectl",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "kube-controller-manager": _KUBERNETES + "kube-controller-manager",
    "kube-scheduler": _KUBERNETES + "kube-scheduler",
    "kubelet": _KUBERNETES + "kubelet",
    "kube-proxy": _KUBERNETES + "kube-proxy",
    "kubeadm": _KUBERNETES + "kubeadm",
    "containerd": _CONTAINERD + "containerd",
    "containerd-shim-runc-v2": _CONTAINERD + "containerd-shim-runc-v2",
    "ctr": _CONTAINERD + "ctr",
    "crictl": "sigs.k8s.io/cri-tools/cmd/crictl",
    "ptp": _CNI + "main/ptp",
    "loopback": _CNI + "main/loopback",
    "portmap": _CNI + "meta/portmap",
    "host-local": _CNI + "ipam/host-local",
    "local-path-provisioner": "github.com/rancher/local-path-provisioner",
    "coredns": "kubesynth.io/testing/cluster/coredns",
    "pause": "kubesynth.io/testing/cluster/pause",
    "kind": "sigs.k8s.io/kind",
}
"""Every program and the Go package it is built from, in the order in which they are wanted."""

API_SERVER = ("kube-apiserver", "etcd", "kubectl")
"""What tests against a bare API server need: built first."""

CONTROL_PLANE = (*API_SERVER, "kube-controller-manager", "kube-scheduler")
"""The API server, and what makes pods of Jobs and collects garbage."""

FEWER_COLLECTIONS = {"GOGC": "400"}
"""Set for Kubernetes' programs. With Go's own 100 a test's API server takes 1.6 times the CPU."""

STOCK_NODE_IMAGE = "kindest/node:v1.37.0"
"""The node image that this version of kind goes with, for hosts that can pull it."""

BUILT_ALONE = ("local-path-provisioner",)
"""It imports logrus under its old name, Sirupsen; one build may not hold both spellings."""


@cache
def module_version(module: str) -> str:
    """Return the version of a Go module that go.mod requires, such as `v1.37.2`.

    Raises:
        LookupError: go.mod does not require the module.
    """
    found = re.search(
        rf"^\s*{re.escape(module)} (v\S+)", (GO_SOURCE / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        raise LookupError(f"{GO_SOURCE / 'go.mod'} does not require {module}")
    return found[1]


def kubernetes_version() -> str:
    """Return the Kubernetes version of the cluster, such as `v1.37.2`."""
    return module_version("k8s.io/kubernetes")


def build_flags() -> list[str]:
    """Return the arguments of `go build`, alike for all programs so that they share its cache.

    Kubernetes takes its version from the linker; without it clients see v0.0.0. Debug information
    is not made: nobody debugs these programs here, and it costs build time and half of their size.
    """
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    linker = ["-s", "-w"]
    for name, value in stamp.items():
        linker += ["-X", f"k8s.io/component-base/version.{name}={value}"]
    return [
        "-mod=mod",
        "-buildvcs=false",
        "-trimpath",
        "-gcflags=all=-dwarf=false",
        f"-ldflags={' '.join(linker)}",
    ]


def content_key(root: Path, files: Iterable[Path], *facts: str) -> str:
    """Return a short hash of files, by their names below a root, and of further facts."""
    digest = hashlib.sha256()
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root)}\0{len(content)}\0".encode() + content)
    for fact in facts:
        digest.update(f"\0{fact}".encode())
    return digest.hexdigest()[:12]


@cache
def binaries_key() -> str:
    """Return the key of the build: the Kubernetes version and a hash of the recipe."""
    sources = [path for path in GO_SOURCE.rglob("*") if path.is_file()]
    facts = [*build_flags(), *(f"{k}={v}" for k, v in PACKAGES.items()), platform.machine()]
    return f"{kubernetes_version()}-{content_key(GO_SOURCE, sources, *facts)}"
