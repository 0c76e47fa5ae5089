"""Tests of the chart; they share their servers."""
