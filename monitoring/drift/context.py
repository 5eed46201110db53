"""Recent decisions and label performance, used as context for alerts."""

from collections.abc import Collection, Mapping

from monitoring.drift.concentration import Burst
from monitoring.performance.label_join import LabelJoin
from monitoring.performance.recent_decisions import RecentDecisions
from monitoring.performance.rolling_metrics import PerformancePolicy
from schemas.records import Decision, Label, PerformanceReport


class AlertContext:
    """A fold over decisions and labels, with bounded memory."""

    def __init__(self, maturity_ms: int = 0) -> None:
        """maturity_ms: age of a transaction from which its label is final."""
        self._recent = RecentDecisions()
        self._performance = LabelJoin(PerformancePolicy(maturity_ms=maturity_ms))

    def add_decision(self, key: bytes | None, decision: Decision) -> None:
        """Add a decision. key: of its record, which identifies the card."""
        self._recent.update(key, decision)
        self._performance.add_decision(decision)

    def add_label(self, label: Label) -> None:
        """Add a label."""
        self._performance.add_label(label)

    def examples_of_cards(self, until_ms: int, cards: Collection[bytes]) -> tuple[str, ...]:
        """Ids of a few transactions of these cards up to an event time; if there are none, of flagged ones."""
        return self._recent.examples_of_cards(until_ms, cards)

    def is_concentrated(self, until_ms: int) -> bool:
        """Whether few cards cause most of the flagged transactions."""
        return self._recent.is_concentrated(until_ms)

    def flagged_cards(self, until_ms: int) -> tuple[bytes, ...]:
        """Cards that have a notable share of the last day's flagged transactions, the busiest first."""
        return self._recent.flagged_cards(until_ms)

    def bursts(self, until_ms: int) -> Mapping[str, Burst]:
        """Burst in each window up to an event time, by name of the window."""
        return self._recent.bursts(until_ms)

    def performance(self, model_version: int, now_ms: int) -> PerformanceReport:
        """Performance of a version on final labels."""
        return self._performance.report(model_version, now_ms)

    def performance_alarm(self, model_version: int, now_ms: int) -> str | None:
        """Reason to retrain, in one sentence, or None."""
        return self._performance.alarm(model_version, now_ms)
