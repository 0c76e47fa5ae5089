"""Tests of what the API server makes of our definitions; they share their servers."""
