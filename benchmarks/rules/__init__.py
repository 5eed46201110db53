"""Benchmarks of rules: their cost in comparison with other engines, and the time from activation to effect."""
