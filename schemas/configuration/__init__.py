"""Settings of all programs, and the Kafka, registry and notification configuration derived from them."""
