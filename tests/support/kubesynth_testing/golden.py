"""Where the golden manifests are."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parents[2] / "unit/operator/golden"
