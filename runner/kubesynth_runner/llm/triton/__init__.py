"""Models on Triton Inference Server, over gRPC: NeMo Deploy, the vLLM and TensorRT-LLM backends."""

import os

# gRPC writes to stderr by itself, in a format of its own; its failures arrive as exceptions.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
