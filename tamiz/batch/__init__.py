"""Scores files of transactions, or counts them for drift."""
