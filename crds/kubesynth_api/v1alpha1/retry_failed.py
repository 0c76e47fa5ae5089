"""Replaying the failed records of another run."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, Uri
from kubesynth_api.v1alpha1.storage import StorageOptions, folder_rules


class RetryFailed(ApiModel):
    """Replay the failed records of another run.

    Each enters the pipeline at the stage where it failed, or at the beginning if the pipeline is
    another one up to there, and keeps its ids. What failed as input is carried over. Then the data/
    of both runs is the dataset, and the errors/ of this one is what still fails.
    """

    cel: ClassVar[tuple[CelRule, ...]] = folder_rules("fromOutput", "from_output")

    from_output: Uri = Field(
        description=(
            "Output of the run whose errors/ are replayed. It must have ended, and is only read."
        ),
        examples=["pvc://datasets/support-qa"],
    )
    storage: StorageOptions | None = Field(
        default=None, description="How to reach the object store of fromOutput."
    )
