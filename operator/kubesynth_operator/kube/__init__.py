"""Speaking to the API server: the only package that does, and the only importer of its client."""
