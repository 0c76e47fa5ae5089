"""The data plane: executes a pipeline over records, and the `kubesynth` command line."""
