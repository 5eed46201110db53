"""Incidents, retraining policy, notification formats and rate limits."""
