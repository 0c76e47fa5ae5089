"""The tests of kubesynth."""
