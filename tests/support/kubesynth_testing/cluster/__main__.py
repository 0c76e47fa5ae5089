"""The command line of the harness: `python -m kubesynth_testing.cluster COMMAND`."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor

from kubesynth_testing.cluster import (
    addons,
    binaries,
    docker_daemon,
    host,
    images,
    kind,
    leftovers,
    sessions,
)
from kubesynth_testing.cluster.docker_client import NoBuildKitError
from kubesynth_testing.cluster.progress import say
from kubesynth_testing.cluster.shell import CommandError

_DEV_TAG = "kubesynth:dev"


def up(_: argparse.Namespace) -> int:
    """Make the cluster, or find that it runs already."""
    cluster = kind.up()
    sessions.adopt()
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    return 0


def down(arguments: argparse.Namespace) -> int:
    """Delete the cluster and stop the Docker daemon that was started for it."""
    kind.down(purge=arguments.purge)
    sessions.adopt()
    return 0


def image(arguments: argparse.Namespace) -> int:
    """Build the project's image and load it into the cluster, if one runs."""
    docker = docker_daemon.connect()
    name = images.build(docker, tag=arguments.tag, extras=arguments.extras)
    if kind.find() is not None:
        kind.load_images(docker, name)
    print(name)
    return 0


def kubeconfig(_: argparse.Namespace) -> int:
    """Print the path of the kubeconfig of the running cluster."""
    cluster = kind.find()
    if cluster is None:
        say("no cluster runs: `make cluster-up`")
        return 1
    print(cluster.kubeconfig)
    return 0


def prebuild(arguments: argparse.Namespace) -> int:
    """Build and cache everything that the cluster's tests need; the first time takes minutes."""
    with ThreadPoolExecutor(2) as pool:
        # Packages are fetched while the compiler runs.
        programs = pool.submit(binaries.ensure)
        docker = docker_daemon.connect()
        images_built = pool.submit(images.build_for_tests, docker)
        programs.result()
        addons.ensure_all()
        kind.choose_node_image(docker)
        names = images_built.result()
    if arguments.start:
        sessions.start()
        kind.load_missing_images(docker, *names.values())
    return 0


def check_clean(_: argparse.Namespace) -> int:
    """List what a cluster left behind on this host; fail if there is anything."""
    found = leftovers.find()
    for line in found:
        print(line)
    say("nothing is left" if not found else f"{len(found)} things are left")
    return 1 if found else 0


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m kubesynth_testing.cluster")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down, image, kubeconfig, prebuild, check_clean):
        name = function.__name__.replace("_", "-")
        command = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        command.set_defaults(run=function)
        if function is down:
            command.add_argument("--purge", action="store_true", help="also delete cached images")
        if function is image:
            command.add_argument("--extras", default="", help="optional parts, comma-separated")
            command.add_argument("--tag", default=_DEV_TAG, help="name of the image")
        if function is prebuild:
            command.add_argument("--start", action="store_true", help="start the cluster, too")
    arguments = parser.parse_args()
    try:
        return int(arguments.run(arguments))
    except (
        CommandError,
        binaries.MissingToolchainError,
        docker_daemon.DockerStartError,
        docker_daemon.NoDockerError,
        host.MissingProgramError,
        NoBuildKitError,
    ) as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
