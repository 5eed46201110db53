"""Incidents, retraining policy, and what is sent to people."""
