"""From payloads to decisions. Pure: no Kafka, clock, network or environment."""
