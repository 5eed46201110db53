"""Benchmarks, run by `make bench-…`; random data is seeded."""
