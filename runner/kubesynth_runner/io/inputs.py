"""The input of a job, whatever its URI's scheme: which files it has, and their content."""

from __future__ import annotations

from typing import Protocol

from kubesynth_api.v1alpha1.storage import InputSpec
from kubesynth_runner.io import input_files, object_stores
from kubesynth_runner.io.contents import Content
from kubesynth_runner.io.local_inputs import LocalInput
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.io.object_inputs import ObjectInput
from kubesynth_runner.io.plan_file import InputFile


class InputSource(Protocol):
    """Where the files of an input are. Blocking; may be used from several threads.

    `left_out` has the files of a folder that `find` has passed over, by their ending: how many.
    """

    left_out: input_files.LeftOut

    def find(self) -> list[InputFile]:
        """Return the files that `input.uri` means, sorted by URI, with their versions.

        Raises:
            ConfigurationError: the place cannot be read, or a file's format is not known.
            RetryLaterError: it is not available.
        """
        ...

    def open(self, file: InputFile) -> Content:
        """Return the content of a planned file.

        Raises:
            ConfigurationError: it is gone, or it has changed since plan saw it. Where that is first
                known when something is read, reading raises it.
        """
        ...


def open_source(spec: InputSpec, mounts: Mounts) -> InputSource:
    """Return the source of an input. Connects to nothing.

    Raises:
        ConfigurationError: the URI, its options or credentials cannot be used.
    """
    if object_stores.is_object_uri(spec.uri):
        return ObjectInput(spec, mounts)
    if spec.uri.startswith(("http://", "https://")):
        from kubesynth_runner.io.http_inputs import HttpInput  # other inputs need no HTTP client

        return HttpInput(spec, mounts)
    return LocalInput(spec, mounts)


def find(source: InputSource, spec: InputSpec) -> list[InputFile]:
    """Return the files of an input, at least one, sorted by URI.

    Raises:
        ConfigurationError: nothing matches, or see `InputSource.find`.
    """
    found = source.find()
    if not found:
        raise input_files.no_match(spec.uri, source.left_out)
    return found
