"""Kafka clients, the Faust transport, record batches, and readers of topics."""
