"""Counting tokens as the model does: its own tokenizer.json, where a job names one.

The library is an extra (`tokenizers`), since most jobs do well with the estimate of
`pipelines.tokens`.
"""

from __future__ import annotations

import functools
import gzip
import zlib
from concurrent.futures import ThreadPoolExecutor

from kubesynth_api.conditions import Reason
from kubesynth_api.v1alpha1.synthetic_data_job import SyntheticDataJobSpec
from kubesynth_runner import errors
from kubesynth_runner.io.locations import local_path
from kubesynth_runner.io.mounts import Mounts
from kubesynth_runner.pipelines import tokens

_GZIP = b"\x1f\x8b"


def load(spec: SyntheticDataJobSpec, mounts: Mounts) -> tokens.Count:
    """Return how the stages of a job count tokens. Blocking: a large vocabulary takes a second.

    Raises:
        ConfigurationError: the file cannot be read, is no tokenizer, or the library is missing.
    """
    if spec.tokenizer is None:
        return tokens.count
    uri = spec.tokenizer.uri
    return _parsed(read(uri, mounts), uri)


def read(uri: str, mounts: Mounts) -> bytes:
    """Return the content of a tokenizer's file. Blocking.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return local_path(uri, mounts).read_bytes()
    except OSError as exc:
        raise errors.ConfigurationError(
            Reason.REFERENCE_NOT_FOUND, f"tokenizer.uri: {uri}: {exc}"
        ) from exc


@functools.lru_cache(maxsize=1)  # plan looks at it, and then every shard of the process
def _parsed(data: bytes, uri: str) -> tokens.Count:
    return _parse(data, uri)


def _parse(data: bytes, uri: str) -> tokens.Count:
    try:
        from tokenizers import Tokenizer
    except ImportError as exc:
        raise errors.ConfigurationError(
            Reason.INVALID_SPEC,
            "tokenizer: counting with a tokenizer.json needs kubesynth's extra `tokenizers`"
            " (in an image: build it with the extra `tokenizers`)",
        ) from exc
    try:
        text = (gzip.decompress(data) if data.startswith(_GZIP) else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise _not_understood(uri, exc) from exc
    # The library raises nothing more special than Exception.
    with ThreadPoolExecutor(1) as other:
        loading = other.submit(Tokenizer.from_str, text)
    problem = loading.exception()
    if problem is not None:
        raise _not_understood(uri, problem) from problem
    parsed = loading.result()
    # What a file says of batches: lengths would be those of the batch's longest, or cut.
    parsed.no_truncation()
    parsed.no_padding()

    def count(text: str) -> int:
        return len(parsed.encode(text, add_special_tokens=False))

    return count


def _not_understood(uri: str, why: BaseException) -> errors.ConfigurationError:
    return errors.ConfigurationError(
        Reason.INVALID_SPEC, f"tokenizer.uri: {uri} is no tokenizer.json: {why}"
    )
