"""Redrive: sends corrected dead letters back to the transactions topic."""
