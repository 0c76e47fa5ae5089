"""What is wrong with a job on a cluster alone: without one its files are the user's own."""

from __future__ import annotations

from collections.abc import Iterator

from kubesynth_api.findings import Finding, invalid
from kubesynth_api.uris import UriError, parse
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec


def check(spec: SyntheticDataJobSpec) -> Iterator[Finding]:
    """Yield the outputs that are folders of a pod, and would be gone with it.

    An input may be one: files of the runner's image.
    """
    if _is_in_the_pod(spec.output.uri):
        yield invalid(
            "spec.output.uri",
            "a folder of the pod is gone with the pod; use a volume claim (pvc://CLAIM/PATH) or a "
            "bucket (s3://, gs://, az://)",
        )
    if spec.retry_failed is not None and _is_in_the_pod(spec.retry_failed.from_output):
        yield invalid(
            "spec.retryFailed.fromOutput",
            "no pod has a folder with another run's output; name the volume claim "
            "(pvc://CLAIM/PATH) or bucket (s3://, gs://, az://) where it is",
        )


def _is_in_the_pod(uri: str) -> bool:
    try:
        return parse(uri).scheme == "file"
    except UriError:
        return False  # that is found elsewhere
