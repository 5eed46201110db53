"""The embedded Kafka broker, for development and tests."""
