"""URIs in parts."""

from __future__ import annotations

import pytest

from kubesynth_api.uris import Location, UriError, parse, version_advice


@pytest.mark.parametrize(
    ("uri", "location"),
    [
        ("pvc://claim/a/b.jsonl", Location("pvc", "claim", "a/b.jsonl")),
        ("configmap://name/key", Location("configmap", "name", "key")),
        ("file:///a/b", Location("file", "", "/a/b")),
        ("file://a/b", Location("file", "", "a/b")),
        ("/a/b", Location("file", "", "/a/b")),
        ("s3://bucket", Location("s3", "bucket", "")),
        ("https://host/a", Location("https", "host", "a")),
    ],
)
def test_uri_is_taken_apart(uri: str, location: Location) -> None:
    assert parse(uri) == location


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("a/b", "starts with none of"),
        ("ftp://a/b", "starts with none of"),
        ("pvc://claim", "is not pvc://NAME/PATH"),
        ("pvc:///path", "is not pvc://NAME/PATH"),
        ("configmap://name/", "is not configmap://NAME/KEY"),
        ("file://", "has no path"),
    ],
)
def test_malformed_uri_is_refused(uri: str, words: str) -> None:
    with pytest.raises(UriError, match=words):
        parse(uri)


@pytest.mark.parametrize(
    ("path", "fixed"),
    [
        ("a/b.jsonl", "a/b.jsonl"),
        ("a/*.jsonl", "a"),
        ("a/**/b/*.md", "a"),
        ("*", ""),
        ("/a/[bc]/d", "/a"),
    ],
)
def test_fixed_path_ends_before_the_pattern(path: str, fixed: str) -> None:
    location = Location("pvc", "claim", path)
    assert location.fixed_path == fixed
    assert location.is_pattern == (path != fixed)


def test_file_beside_something_is_relative() -> None:
    assert parse("file://a").is_relative_file
    assert not parse("file:///a").is_relative_file
    assert not parse("pvc://claim/a").is_relative_file


@pytest.mark.parametrize(
    ("url", "suggested"),
    [
        ("http://llm:8000", "http://llm:8000/v1"),
        ("http://llm:8000/", "http://llm:8000/v1"),
        ("https://host/openai", "https://host/openai/v1"),
        ("https://v1/api", "https://v1/api/v1"),  # a host
        ("http://llm:8000/v1", ""),
        ("http://llm:8000/v1/", ""),
        ("https://generativelanguage.example/v1beta/openai", ""),
        ("https://openrouter.example/api/v1", ""),
        ("https://host/api/paas/v4", ""),
    ],
)
def test_a_url_without_the_version_of_an_api_is_noted(url: str, suggested: str) -> None:
    said = version_advice(url)
    assert (f"is it {suggested}?" in said) if suggested else said == ""
