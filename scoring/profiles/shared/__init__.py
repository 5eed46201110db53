"""Profiles of other entities, shared over all partitions: tiles and late labels."""
