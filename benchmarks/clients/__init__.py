"""The clients that are compared, each a program of its own: `python -m benchmarks.clients.NAME`.

What such a program must do is written in `protocol.py`, how to add one in the README.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """A client under test. `rows_share` makes slow ones do less of the work, not less of the time.

    CPU per row and items per second do not depend on the number of rows once start-up is left out.
    """

    title: str
    module: str
    arguments: tuple[str, ...] = ()
    rows_share: float = 1.0


ENGINE = Client("kubesynth", "benchmarks.clients.engine")
BARE_AIOHTTP = Client("bare aiohttp", "benchmarks.clients.bare_aiohttp")
OPENAI_AIOHTTP = Client(
    "AsyncOpenAI, aiohttp transport",
    "benchmarks.clients.async_openai",
    ("--transport", "aiohttp"),
    0.4,
)
OPENAI = Client(
    "AsyncOpenAI, stock", "benchmarks.clients.async_openai", ("--transport", "stock"), 0.2
)
ALL = (ENGINE, BARE_AIOHTTP, OPENAI_AIOHTTP, OPENAI)
