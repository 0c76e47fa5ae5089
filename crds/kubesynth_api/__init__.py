"""The kubesynth API: the models that the operator, the runner and the CRDs share."""
