"""Manifests of the children, one kind a module: pure functions from values to plain dicts."""
