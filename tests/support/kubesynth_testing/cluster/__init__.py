"""A real Kubernetes cluster for the tests and for contributors.

kind with one control plane and two workers. Where a container registry can be reached the nodes run
the stock kind image; where none can, an image that is built here from Go modules and Debian
packages. `docs/contributing-cluster.md` tells how to use it and what to watch for.

    python -m kubesynth_testing.cluster up
"""
