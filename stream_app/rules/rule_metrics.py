"""Metrics of rules and lists in a worker."""

from prometheus_client import CollectorRegistry, Counter

from schemas.security.sanitizer import KnownNames
from scoring.decision import DECIDERS
from stream_app.decisions.rule_tally import RuleTally

MAX_NAMES = 1_000  # of rules, and of lists, since the worker's start; further ones count as `other`


class RuleMetrics:
    """What rules, lists and exploration did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rules, self._lists = KnownNames(MAX_NAMES), KnownNames(MAX_NAMES)
        self._deciders = Counter(
            "tamiz_decided_by",
            "Decisions published, by who chose the outcome: model, rule, list or exploration",
            ["decided_by"],
            registry=registry,
        )
        self._matches = Counter(
            "tamiz_rule_matches",
            "Transactions that a rule matched, by rule and mode; also where another rule decided",
            ["rule", "mode"],
            registry=registry,
        )
        self._unknown = Counter(
            "tamiz_rule_unknown",
            "Transactions for which a rule was unknown, because a value was missing; it did not match",
            ["rule"],
            registry=registry,
        )
        self._snoozed = Counter(
            "tamiz_rule_snoozed",
            "Transactions that a rule would have matched, had it not been snoozed for their card or another value",
            ["rule"],
            registry=registry,
        )
        self._entries = Counter(
            "tamiz_list_matches",
            "Transactions with a value on a list, by list and effect; without entries that only rules look up",
            ["list", "effect"],
            registry=registry,
        )
        self._omitted = Counter(
            "tamiz_matches_omitted",
            "Matches that are not in their decision, because it names the first 20",
            registry=registry,
        )
        for decider in DECIDERS:
            self._deciders.labels(decider)

    def observe(self, decisions: int, tally: RuleTally | None) -> None:
        """Count a batch. tally: None if the model decided alone."""
        if tally is None:
            self._deciders.labels("model").inc(decisions)
            return
        for decider, n in tally.deciders.items():
            self._deciders.labels(decider).inc(n)
        for (rule, mode), n in tally.matched.items():
            self._matches.labels(self._rules.name(rule), mode).inc(n)
        for rule, n in tally.unknown.items():
            self._unknown.labels(self._rules.name(rule)).inc(n)
        for rule, n in tally.snoozed.items():
            self._snoozed.labels(self._rules.name(rule)).inc(n)
        for (name, effect), n in tally.entries.items():
            self._entries.labels(self._lists.name(name), effect).inc(n)
        self._omitted.inc(tally.omitted)
