"""Hostile records and payloads, sent to real services."""
