"""Tests of Triton; they share their servers."""
