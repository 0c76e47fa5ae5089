"""Tests of object stores; they share their servers."""
