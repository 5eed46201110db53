"""Requests of the hot path, encoded and decoded here and sent over aiokafka's connections."""
