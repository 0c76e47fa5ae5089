"""What endings of input files say, and what to do with files that are not read."""

from __future__ import annotations

from typing import Literal

FileFormat = Literal["JSONL", "Parquet", "Text"]

SUFFIXES: dict[str, FileFormat] = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".jsonl.gz": "JSONL",
    ".ndjson.gz": "JSONL",
    ".parquet": "Parquet",
    ".txt": "Text",
    ".md": "Text",
}
_TABLE = (
    "is not read; convert it to Parquet or JSONL, such as by "
    "duckdb -c \"COPY (FROM 'x{ending}') TO 'x.parquet'\""
)
_DOCUMENT = "is not read; extract its text to .txt or .md files, such as by {tool}"
_JSON = (
    "is read as JSONL alone: if it has one object a line set input.format: JSONL, else convert it, "
    "such as by jq -c '.[]' x.json > x.jsonl"
)
_ADVICE: dict[str, str] = {
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz"), _TABLE),
    **dict.fromkeys((".xls", ".xlsx"), "is not read; save the sheet as CSV and convert that"),
    ".json": _JSON,
    ".pdf": _DOCUMENT.format(tool="pdftotext"),
    **dict.fromkeys(
        (".html", ".htm", ".docx", ".epub", ".odt", ".rtf", ".rst", ".tex"),
        _DOCUMENT.format(tool="pandoc -t plain"),
    ),
    **dict.fromkeys((".txt.gz", ".md.gz", ".zip", ".tar", ".tar.gz"), "is not read; unpack it"),
}
# Endings in two parts, for which one part says too little.
_DOUBLE = (".gz", ".bz2", ".zst", ".xz")


def of_name(name: str) -> FileFormat | None:
    """Return the format that a file's name tells, if any."""
    lower = name.lower()
    return next((form for suffix, form in SUFFIXES.items() if lower.endswith(suffix)), None)


def ending(name: str) -> str:
    """Return the ending of a file's name, `.csv` or `.csv.gz`, in small letters; "" without one."""
    stem, dot, last = name.rsplit("/", 1)[-1].lower().rpartition(".")
    if not dot or not stem:
        return ""
    if f".{last}" in _DOUBLE:
        return f"{ending(stem)}.{last}"
    return f".{last}"


def advice(suffix: str) -> str | None:
    """Return what is the matter with files of an ending, and what to do; None if not known."""
    said = _ADVICE.get(suffix)
    return None if said is None else f"{suffix} {said.replace('{ending}', suffix)}"
