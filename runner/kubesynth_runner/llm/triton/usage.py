"""Tokens of a completion, where the server does not count them. Pure."""

from __future__ import annotations

from kubesynth_runner.llm.base import TokenUsage

# English text has about four bytes a token with today's vocabularies, and texts of other scripts,
# with two to four bytes a character, come out near the truth as well.
BYTES_PER_TOKEN = 4


def estimate(text: str) -> int:
    """Return about how many tokens a text has: at least 1, unless it is empty."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def usage(
    prompt: str, completion: str, prompt_tokens: int | None, completion_tokens: int | None
) -> TokenUsage:
    """Return the usage of a completion: what the server counted, the rest estimated."""
    return TokenUsage(
        estimate(prompt) if prompt_tokens is None else prompt_tokens,
        estimate(completion) if completion_tokens is None else completion_tokens,
        estimated=prompt_tokens is None or completion_tokens is None,
    )
