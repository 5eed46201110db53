"""Synthetic card transactions, their formats, and injected drift."""
