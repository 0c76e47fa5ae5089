"""The control plane: reconciles SyntheticDataJobs."""
