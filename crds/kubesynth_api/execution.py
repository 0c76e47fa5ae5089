"""What `execution: Batch` asks of a job."""

from __future__ import annotations

from collections.abc import Iterator

from kubesynth_api.findings import Finding, invalid
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield a finding for everything that batches cannot do."""
    if spec.execution != "Batch":
        return
    for index, model in enumerate(spec.models):
        path = f"spec.models[{index}]"
        if model.external is None or model.external.protocol != "OpenAI":
            yield invalid(
                path, "with execution: Batch every model must be external, at OpenAI's Batch API"
            )
        elif model.external.azure is not None:
            yield invalid(
                f"{path}.external.azure",
                "with execution: Batch use the resource's /openai/v1 as url, without azure",
            )
    for field, value in (("budget", spec.budget), ("target", spec.target)):
        if value is not None:
            yield invalid(
                f"spec.{field}",
                "cannot be kept with execution: Batch, where all requests are sent at once; "
                "limit the input (input.limit)",
            )
