"""Measurements, run by `make bench-…`; seeded where they draw."""
