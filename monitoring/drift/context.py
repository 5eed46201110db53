"""What is known beside the panes: the last decisions, and what labels say of them."""

from collections.abc import Collection, Mapping

from monitoring.drift.adwin import ScoreAdwin
from monitoring.drift.concentration import Burst
from monitoring.performance.label_join import LabelJoin
from monitoring.performance.recent_decisions import RecentDecisions
from monitoring.performance.rolling_metrics import PerformancePolicy
from schemas.records import Decision, Label, PerformanceReport


class AlertContext:
    """A fold over decisions and labels, bounded in memory."""

    def __init__(self, maturity_ms: int = 0) -> None:
        """maturity_ms: how old a transaction is before its label is final."""
        self._recent = RecentDecisions()
        self._mean_score = ScoreAdwin()
        self._performance = LabelJoin(PerformancePolicy(maturity_ms=maturity_ms))

    def decided(self, key: bytes | None, decision: Decision) -> None:
        """Take in a decision; key: its record's, the card."""
        self._recent.add(key, decision)
        self._mean_score.add(decision.score)
        self._performance.observe_decision(decision)

    def labelled(self, label: Label) -> None:
        """Take in a label."""
        self._performance.observe_label(label)

    def examples(self, features: tuple[str, ...], until_ms: int, cards: Collection[bytes] = ()) -> tuple[str, ...]:
        """Ids of a few transactions up to an instant, of these cards where there are any."""
        return self._recent.examples(features, until_ms, cards)

    def concentrated(self, until_ms: int) -> bool:
        """Whether what is flagged comes from few cards."""
        return self._recent.concentrated(until_ms)

    def bursts(self, until_ms: int) -> Mapping[str, Burst]:
        """What few cards sent beyond their usual share, by name of each window up to an instant."""
        return self._recent.bursts(until_ms)

    def performance(self, model_version: int, now_ms: int) -> PerformanceReport:
        """What matured labels say of a version."""
        return self._performance.report(model_version, now_ms)

    def performance_alarm(self, model_version: int, now_ms: int) -> str | None:
        """The same, when it is bad."""
        return self._performance.alarm(model_version, now_ms)

    def adwin(self) -> bool:
        """Whether ADWIN saw the mean score change since it was last asked."""
        return self._mean_score.asked()
