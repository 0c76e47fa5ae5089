"""Where records come from and where the dataset goes."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from kubesynth_api._base import ApiModel, CelRule, ColumnName, Uri, matches
from kubesynth_api.meta import NameReference, TextSource
from kubesynth_api.uris import path_advice

_CLAIM_PATTERN = r"^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/.+"
_CONFIG_MAP_PATTERN = r"^configmap://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[^/]+$"
_FOLDER_PATTERN = r"^((pvc|s3|gs|az|file)://.+|/.+)$"
_FILE_PATTERN = r"^((pvc|configmap|file)://[^*?\[]+|/[^*?\[]+)$"
_CLIMBING_PATTERN = r"(^|/)\.\.(/|$)"


def _path_rules(field: str, attribute: str) -> tuple[CelRule, ...]:
    """Return the rules of a URI whose path lies in a volume, a bucket or on a disk."""

    def uri(model: ApiModel) -> str:
        text: str = getattr(model, attribute)
        return text

    return (
        CelRule(
            f"!self.{field}.startsWith('pvc://') || self.{field}.matches(r'{_CLAIM_PATTERN}')",
            "a pvc URI is pvc://CLAIM/PATH",
            f".{field}",
            lambda model: (
                not uri(model).startswith("pvc://")
                or re.search(_CLAIM_PATTERN, uri(model)) is not None
            ),
        ),
        CelRule(
            f"self.{field}.startsWith('file://') || self.{field}.startsWith('/')"
            f" || !self.{field}.matches(r'{_CLIMBING_PATTERN}')",
            "the path must not lead out of its volume or bucket (..)",
            f".{field}",
            lambda model: (
                uri(model).startswith(("file://", "/"))
                or re.search(_CLIMBING_PATTERN, uri(model)) is None
            ),
        ),
    )


def folder_rules(field: str, attribute: str) -> tuple[CelRule, ...]:
    """Return the rules of the URI of an output; `attribute` is what Python calls the field."""
    return (
        matches(
            field,
            _FOLDER_PATTERN,
            f"{field} must start with pvc://, s3://, gs://, az://, file:// or /",
            path_advice,
            attribute=attribute,
        ),
        *_path_rules(field, attribute),
    )


class StorageCredentials(ApiModel):
    """Credentials of an object store."""

    secret_ref: NameReference = Field(
        description=(
            "Secret with AWS_*, GOOGLE_* or AZURE_* keys, as the stores name them. Every key is a "
            "file in the pod; others are ignored."
        )
    )


class StorageOptions(ApiModel):
    """How to reach an object store."""

    endpoint: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None,
        description="URL of an S3-compatible store, or of a blob service with its account.",
    )
    region: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Region of the bucket."
    )
    path_style: bool | None = Field(
        default=None, description="Address buckets by path instead of by host name."
    )
    ca_bundle: TextSource | None = Field(
        default=None, description="Certificate authorities of the endpoint, PEM."
    )
    credentials: StorageCredentials | None = Field(
        default=None, description="Credentials; without them, the pod's own identity."
    )


class InputSample(ApiModel):
    """A random part of the input."""

    fraction: float = Field(
        gt=0,
        le=1,
        description=(
            "Share of the records that is taken. Which ones depends on `seed` and on each record's "
            "id, or without idColumn its place; neither on the shards nor on other files."
        ),
    )


class InputSpec(ApiModel):
    """The records that the pipeline starts from."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        matches(
            "uri",
            r"^((pvc|configmap|s3|gs|az|https?|file)://.+|/.+)$",
            "uri must start with pvc://, configmap://, s3://, gs://, az://, https://, file:// or /",
            path_advice,
        ),
        CelRule(
            f"!self.uri.startsWith('configmap://') || self.uri.matches(r'{_CONFIG_MAP_PATTERN}')",
            "a configmap URI is configmap://NAME/KEY; KEY may be a pattern such as *.jsonl",
            ".uri",
            lambda model: (
                not model.uri.startswith("configmap://")
                or re.search(_CONFIG_MAP_PATTERN, model.uri) is not None
            ),
        ),
        *_path_rules("uri", "uri"),
    )

    uri: Uri = Field(
        description=(
            "File, folder or pattern (*, ?, **). pvc://CLAIM/PATH is a path in a volume claim of "
            "the job's namespace, configmap://NAME/KEY a key of a ConfigMap. file:///PATH is a "
            "path in the pod or, without a cluster, on the machine, and file://PATH one beside the "
            "manifest. s3://BUCKET/KEY, gs://BUCKET/KEY and az://CONTAINER/KEY are objects of a "
            "store, https://HOST/FILE is a single file of a web server. A folder means every file "
            "below it."
        ),
        examples=["pvc://corpus/docs/*.jsonl.gz"],
    )
    format: Literal["Auto", "JSONL", "Parquet", "Text"] = Field(
        default="Auto",
        description=(
            "Auto goes by the name: .jsonl, .ndjson, .jsonl.gz, .parquet, .txt, .md. "
            "A text file is one record whose text is the whole file."
        ),
    )
    text_column: ColumnName = Field(
        default="text", description="Column that holds the document or question."
    )
    id_column: ColumnName | None = Field(
        default=None,
        description=(
            "Column with an id of the user's own. Without it a record's id is a hash of its file's "
            "name and its place in the file. Records with the id of an earlier one go to errors/."
        ),
    )
    columns: Annotated[
        dict[ColumnName, Annotated[str, Field(min_length=1, max_length=253)]],
        Field(max_length=64),
    ] = Field(
        default_factory=dict,
        description=(
            "Columns to carry along, as NAME: column of the file. Empty: every column is "
            "available to prompts, and none but the text column is written to the output."
        ),
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=10**12,
        description="Take only the first so many records, of the sample if there is one.",
    )
    sample: InputSample | None = Field(
        default=None, description="Take a random part of the records."
    )
    storage: StorageOptions | None = Field(
        default=None, description="How to reach the object store."
    )


class OutputSplit(ApiModel):
    """Shares of the dataset's splits. Not available yet."""

    train: float = Field(ge=0, le=1, description="Share of the training split.")
    validation: float = Field(default=0, ge=0, le=1, description="Share of the validation split.")
    test: float = Field(default=0, ge=0, le=1, description="Share of the test split.")


class Tokenizer(ApiModel):
    """What texts are measured with, in place of the built-in estimate."""

    cel: ClassVar[tuple[CelRule, ...]] = (
        matches(
            "uri",
            _FILE_PATTERN,
            "uri must be one file: pvc://CLAIM/PATH, configmap://NAME/KEY, file:// or /",
            path_advice,
        ),
        *_path_rules("uri", "uri"),
    )

    uri: Uri = Field(
        description=(
            "The model's tokenizer.json, as Hugging Face's models have it; may be gzipped. "
            "pvc://CLAIM/PATH, configmap://NAME/KEY, or as for input.uri a file."
        ),
        examples=["pvc://models/llama-3.1-8b/tokenizer.json"],
    )


class OutputSpec(ApiModel):
    """Where the dataset goes, and in what form."""

    cel: ClassVar[tuple[CelRule, ...]] = folder_rules("uri", "uri")

    uri: Uri = Field(
        description=(
            "Folder of the run, its own alone. Rows go to data/, failed records to errors/, and "
            "the journal that makes restarts exact to _kubesynth/. s3://BUCKET/PREFIX, "
            "gs://BUCKET/PREFIX and az://CONTAINER/PREFIX are object stores."
        ),
        examples=["pvc://datasets/support-qa"],
    )
    format: Literal["Parquet", "JSONL"] = Field(
        default="Parquet", description="Format of the rows."
    )
    rows_per_part: int = Field(
        default=50000,
        ge=1,
        le=10000000,
        description=(
            "Rows after which a part file is committed; a GiB is enough too. Parts are also the "
            "unit of memory."
        ),
    )
    if_exists: Literal["Fail", "Resume", "Overwrite"] = Field(
        default="Fail",
        description=(
            "What to do when the folder holds another run: Fail; Resume goes on with it if it had "
            "the same pipeline and input; Overwrite deletes it. A run always resumes itself."
        ),
    )
    split: OutputSplit | None = Field(
        default=None, description="Divide the rows into splits. Not available yet."
    )
    exports: (
        Annotated[tuple[Literal["messages", "alpaca", "sharegpt"], ...], Field(max_length=8)] | None
    ) = Field(default=None, description="Extra copies for trainers. Not available yet.")
    storage: StorageOptions | None = Field(
        default=None, description="How to reach the object store."
    )
