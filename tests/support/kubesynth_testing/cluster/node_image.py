"""Builds the image of a kind node where the stock one cannot be pulled.

What is in it: a Debian root file system, the files of kind's own base image (from the kind module
in Go's module cache), the programs of `binaries`, and the images that kubeadm and kind's storage
manifest name, made here from the same programs. kindnetd, kind's pod network, is not a Go module
that can be had; `pod_network` stands in.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kubesynth_testing.cluster import binaries, debian, host, image_archive, locks, paths, recipe
from kubesynth_testing.cluster.docker_client import Docker
from kubesynth_testing.cluster.image_archive import Image
from kubesynth_testing.cluster.progress import step
from kubesynth_testing.cluster.shell import Shell

REPOSITORY = "kubesynth.local/kind-node"

# The packages of kind's images/base/Dockerfile, less those of network file systems, and runc.
# fmt: off
_NODE_PACKAGES = [
    "systemd", "conntrack", "iptables", "nftables", "iproute2", "ethtool", "util-linux", "mount",
    "kmod", "libseccomp2", "pigz", "e2fsprogs", "bash", "ca-certificates", "curl", "jq", "procps",
    "runc",
]
# fmt: on

# What kube-proxy calls, and a shell for the provisioner of volumes.
_TOOL_PACKAGES = ["iptables", "nftables", "conntrack", "kmod", "busybox-static"]
_BUSYBOX_LINKS = ("sh", "mkdir", "rm", "chmod", "ls", "cat", "sleep", "wget", "nslookup")
_IPTABLES_LINKS = ("iptables", "iptables-save", "iptables-restore")

_LOCAL_BIN = ("containerd", "containerd-shim-runc-v2", "ctr", "crictl")
_USR_BIN = ("kubeadm", "kubelet", "kubectl")
_CNI_BIN = ("loopback", "ptp", "portmap", "host-local")


def tag() -> str:
    """Return the tag of the image that the present recipe builds."""
    modules = [Path(str(module.__file__)) for module in (debian, image_archive)]
    files = [paths.FILES / "Dockerfile.node", paths.FILES / "pod-network.service", Path(__file__)]
    facts = [recipe.binaries_key(), debian.SUITE, str(host.holds_sys_resource())]
    key = recipe.content_key(paths.FILES.parent, files + modules, *facts)
    return f"{REPOSITORY}:{recipe.kubernetes_version()}-{key}"


def ensure(docker: Docker) -> str:
    """Build the image if the daemon does not hold it yet, and return its tag.

    Raises:
        CommandError: A step of the build failed.
    """
    image = tag()
    with locks.file_lock(paths.cache_root() / "node-image.lock"):
        if not docker.has_image(image):
            programs = binaries.ensure()
            with paths.scratch_folder("node-image") as scratch:
                _build(docker, image, programs, scratch)
            docker.keep_newest(REPOSITORY, 1)
    return image


def _build(docker: Docker, image: str, programs: Path, scratch: Path) -> None:
    kind = _KindModule.find()
    root_file_system = _import_root_file_system(docker, scratch)
    context = scratch / "context"
    with step("lay out the node image"):
        _lay_out(context, kind, programs)
        images = _images(kind, programs, scratch)
        image_archive.write_archive(context / "images.tar", images)
    with step(f"build the node image {image}"):
        arguments = {
            "ROOT_FILE_SYSTEM": root_file_system,
            "KUBERNETES_VERSION": recipe.kubernetes_version(),
            "RESTRICT_OOM_SCORE_ADJ": "" if host.holds_sys_resource() else "true",
        }
        build = [
            "build",
            "--network=none",
            "--file",
            str(paths.FILES / "Dockerfile.node"),
            "--tag",
            image,
        ]
        for name, value in arguments.items():
            build += ["--build-arg", f"{name}={value}"]
        docker.run(*build, context)
    docker.run("image", "rm", root_file_system)  # its layers live on in the image


def _import_root_file_system(docker: Docker, scratch: Path) -> str:
    archive = scratch / "node.tar"
    debian.root_file_system(archive, _NODE_PACKAGES)
    name = f"{REPOSITORY}-root:{recipe.content_key(paths.FILES, [], debian.SUITE, *_NODE_PACKAGES)}"
    docker.run("import", archive, name)
    archive.unlink()
    return name


@dataclass(frozen=True, slots=True)
class _KindModule:
    """The source of kind: which images it expects in a node, and the files of its base image.

    Attributes:
        files: The folder that its base image copies to `/`.
        provisioner: The image of the volume provisioner.
        storage_helper: The image of the pods that make and delete volumes.
        storage_manifest: What kind applies for the default StorageClass.
        pause: The image of the first container of every pod.
    """

    files: Path
    provisioner: str
    storage_helper: str
    storage_manifest: str
    pause: str

    @classmethod
    def find(cls) -> _KindModule:
        """Read the module from Go's module cache, downloaded if it is missing."""
        module = "sigs.k8s.io/kind"
        version = f"{module}@{recipe.module_version(module)}"
        # In a folder without go.mod, so that the caller's own module plays no part.
        go = Shell(cwd=paths.cache_folder("build"), env={"GOWORK": "off"})
        source = Path(json.loads(go.run("go", "mod", "download", "-json", version))["Dir"])
        files = source / "images/base/files"
        storage = (source / "pkg/build/nodeimage/const_storage.go").read_text()
        provisioner = _find(r'storageProvisionerImage = "(.+)"', storage)
        storage_helper = _find(r'storageHelperImage = "(.+)"', storage)
        manifest = _find(r"(?s)defaultStorageManifest = `\n(.+)`", storage)
        manifest = manifest.replace("` + storageProvisionerImage + `", provisioner)
        manifest = manifest.replace("` + storageHelperImage + `", storage_helper)
        containerd = (files / "etc/containerd/config.toml").read_text()
        pause = _find(r'sandbox_image = "([^"]+)"', containerd)
        return cls(files, provisioner, storage_helper, manifest, pause)


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise LookupError(f"kind's source has no {pattern!r}: node_image.py must follow it")
    return found[1]


def _lay_out(context: Path, kind: _KindModule, programs: Path) -> None:
    """Write the context of Dockerfile.node, but for the images."""
    # Go's module cache is read-only: copied with their modes, the files could not be deleted.
    shutil.copytree(kind.files, context / "kind-files", copy_function=shutil.copyfile)
    for folder in (context, *(path for path in context.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    shutil.rmtree(context / "kind-files/LICENSES")
    for folder_name, names in (
        ("local-bin", _LOCAL_BIN),
        ("usr-bin", _USR_BIN),
        ("cni-bin", _CNI_BIN),
    ):
        (context / folder_name).mkdir()
        for name in names:
            (context / folder_name / name).hardlink_to(programs / name)
    (context / "manifests").mkdir()
    (context / "manifests/default-storage.yaml").write_text(kind.storage_manifest)
    shutil.copy(paths.FILES / "pod-network.service", context)


def _images(kind: _KindModule, programs: Path, scratch: Path) -> list[Image]:
    """Make the images that a node runs, under the names that kubeadm and kind give them."""
    listed = Shell().run(
        *(programs / "kubeadm", "config", "images", "list"),
        *("--kubernetes-version", recipe.kubernetes_version()),
    )
    # registry/coredns/coredns:v1.14.6 -> coredns
    names = {name.split("/")[-1].split(":")[0]: name for name in listed.split()}
    names |= {"pause": kind.pause, "local-path-provisioner": kind.provisioner}
    tools = scratch / "tools.tar"
    debian.root_file_system(tools, _TOOL_PACKAGES, extract_only=True)
    images = []
    for program, name in names.items():
        files = {f"/usr/local/bin/{program}": programs / program}
        links = _iptables_links() if program == "kube-proxy" else {}
        layer = image_archive.write_layer(scratch / f"{program}.tar", files, links)
        below = [tools] if program == "kube-proxy" else []
        # The manifests of the others name the program; these two run by their entry point.
        entrypoint = [f"/usr/local/bin/{program}"] if program in ("pause", "coredns") else []
        images.append(Image(name, [*below, layer], entrypoint))
    links = {f"/bin/{name}": "busybox" for name in _BUSYBOX_LINKS}
    helper = image_archive.write_layer(scratch / "helper.tar", {}, links)
    images.append(Image(kind.storage_helper, [tools, helper], ["/bin/sh"]))
    return images


def _iptables_links() -> dict[str, str]:
    """Return the links that Debian's alternatives would make, which no script has run for."""
    links = {}
    for name in _IPTABLES_LINKS:
        for family in (name, name.replace("ip", "ip6", 1)):
            links[f"/usr/sbin/{family}"] = "xtables-nft-multi"
    return links
