"""Drift statistics, detection, alerting, and performance on labels. Pure: no Faust, Kafka or clock."""
