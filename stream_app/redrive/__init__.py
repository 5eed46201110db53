"""Corrected dead letters, sent back to the transactions topic."""
