"""Labelled history from files and topics, and its split by event time."""
