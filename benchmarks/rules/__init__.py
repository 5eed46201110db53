"""Benchmarks of rules: beside other engines, and from activation to effect."""
