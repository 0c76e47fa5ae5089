"""Tests of the small language model; they share their servers."""
