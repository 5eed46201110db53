"""Metrics of rules, without a worker."""

from prometheus_client import CollectorRegistry, Counter

from stream_app.rules.activation_metrics import ActivationMetrics


def activation_metrics() -> ActivationMetrics:
    """Metrics in a registry of their own."""
    registry = CollectorRegistry()
    return ActivationMetrics(registry, Counter("skipped", "invalid records", ["topic"], registry=registry))
