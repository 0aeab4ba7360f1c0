"""Benchmarks: `make bench`, or `python -m tests.benchmarks [NAME …]`. They print; nothing asserts on time."""
