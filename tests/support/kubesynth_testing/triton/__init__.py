"""A real Triton Inference Server on loopback, with models that are asked like those of users."""
