"""The Kafka side: from transactions to decisions. The only package that uses Faust."""
