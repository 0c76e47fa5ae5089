"""Speaking to models: the only package of the runner that does."""
