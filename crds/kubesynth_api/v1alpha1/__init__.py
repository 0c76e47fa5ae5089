"""Version v1alpha1 of the kubesynth.io API group."""
