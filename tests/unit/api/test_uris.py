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
        ("https://host/api/paas/v4", ""),
        pytest.param("http://nim-llm:8000", "http://nim-llm:8000/v1", id="nim"),
        pytest.param("https://integrate.api.nvidia.com/v1", "", id="nim-hosted"),
        pytest.param("https://api.openai.com", "https://api.openai.com/v1", id="openai"),
        pytest.param("http://localhost:11434", "http://localhost:11434/v1", id="ollama"),
        pytest.param("http://localhost:11434/api/", "http://localhost:11434/v1", id="ollama-own"),
        pytest.param("http://localhost:11434/v1", "", id="ollama-v1"),
        pytest.param("http://localhost:1234", "http://localhost:1234/v1", id="lm-studio"),
        pytest.param("http://localhost:1234/v1", "", id="lm-studio-v1"),
        pytest.param("https://api.deepseek.com", "", id="deepseek"),
        pytest.param("https://api.deepseek.com/beta/", "", id="deepseek-beta"),
        pytest.param("https://openrouter.ai/api/v1", "", id="openrouter"),
        pytest.param("https://openrouter.ai/api", "https://openrouter.ai/api/v1", id="api"),
        pytest.param("https://api.perplexity.ai", "", id="perplexity"),
        pytest.param("https://models.github.ai/inference", "", id="github"),
        pytest.param("https://x.cloud.databricks.com/serving-endpoints", "", id="databricks"),
        pytest.param("https://generativelanguage.googleapis.com/v1beta/openai/", "", id="gemini"),
        *(
            pytest.param(
                f"https://generativelanguage.googleapis.com{path}",
                "https://generativelanguage.googleapis.com/v1beta/openai",
                id=f"gemini{path}",
            )
            for path in ("", "/v1beta", "/v1beta/models", "/openai")
        ),
        pytest.param("https://r.openai.azure.com/openai/v1/", "", id="azure-v1"),
        *(
            pytest.param(
                f"https://{host}{path}", f"https://{host}/openai/v1", id=f"azure-{host}{path}"
            )
            for host in ("r.openai.azure.com", "r.services.ai.azure.com", "r.openai.azure.us")
            for path in ("", "/", "/openai", "/openai/deployments/gpt-4o")
        ),
    ],
)
def test_a_url_without_the_version_of_an_api_is_noted(url: str, suggested: str) -> None:
    said = version_advice(url)
    assert (f"is it {suggested}?" in said) if suggested else said == ""


def test_azure_is_told_of_both_its_apis() -> None:
    said = version_advice("https://r.openai.azure.com/openai/deployments/gpt-4o")
    assert "azure.apiVersion" in said
