"""Benchmarks of the engine: see README.md beside this file, and `python -m benchmarks --help`."""
