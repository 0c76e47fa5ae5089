"""Storage: the only package of the runner that reads input and writes output."""
