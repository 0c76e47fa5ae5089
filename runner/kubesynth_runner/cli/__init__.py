"""The command `kubesynth`: the same manifests, without a cluster."""
