"""Metrics of which rules and lists are in force in a worker."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ActivationMetrics:
    """What is in force, and what was refused, skipped or read again."""

    def __init__(self, registry: CollectorRegistry, skipped: Counter) -> None:
        """skipped: counts invalid records by topic."""
        self.ruleset = Gauge("tamiz_ruleset", "Number of the ruleset in force; 0 without one", registry=registry)
        self.ruleset_refused = Gauge(
            "tamiz_ruleset_refused",
            "1 if the last activated ruleset is refused, and the one before is in force",
            registry=registry,
        )
        self.list_entries = Gauge(
            "tamiz_list_entries", "Entries on all lists, expired ones included", registry=registry
        )
        self.skipped = skipped
        self.topic_resets = Counter(
            "tamiz_rule_topic_resets",
            "Topics of rules and lists that were recreated, truncated or shortened, and are read again from the start",
            ["topic"],
            registry=registry,
        )
        self.stamps = Counter(
            "tamiz_rule_activations", "Stamps written: from which offset rules and lists hold", registry=registry
        )
        self.states_unavailable = Counter(
            "tamiz_rule_states_unavailable",
            "Times that the rules stamped for a transaction could not be read again, and the current ones were used",
            registry=registry,
        )
