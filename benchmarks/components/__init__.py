"""Benchmarks of single components: batch scoring, codecs, parsers, worker profile, start of the monitor."""
