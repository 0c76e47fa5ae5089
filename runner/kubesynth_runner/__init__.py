"""The data plane: executes a pipeline over records, and the `kubesynth` command line."""

import os

# Arrow reads this when it is loaded. Its own allocator keeps what it was once given; a runner
# writes a few megabytes at a time and needs 40 MB less with the system's.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
