"""Ten thousand documents through the five stages for documents, routed by quality.

A document has a quality from 0 to 19, said by its number. Poor ones are rewritten, good ones go
through four stages: about 2.2 calls for each document. Memory should not depend on their number.
"""

from __future__ import annotations

from benchmarks.scenarios import Bench, memory
from benchmarks.scenarios.memory import Memory


def measure(bench: Bench) -> list[Memory]:
    """Return one result for each number of documents."""
    return [
        memory.run(bench, bench.documents(count), count, "--pipeline", "routed")
        for count in bench.sizes.routed_documents
    ]
