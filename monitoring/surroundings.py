"""What is known beside the panes: the last decisions, and what labels say of them."""

from monitoring.crosscheck import MeanScore
from monitoring.decided import RecentDecisions
from schemas.events import Decision, Label


class Surroundings:
    """A fold over decisions and labels, bounded in memory."""

    def __init__(self) -> None:
        self._recent = RecentDecisions()
        self._mean_score = MeanScore()

    def decided(self, key: bytes | None, decision: Decision) -> None:
        """Take in a decision; key: its record's, the card."""
        self._recent.add(key, decision)
        self._mean_score.add(decision.score)

    def labelled(self, label: Label) -> None:
        """Take in a label."""

    def examples(self, features: tuple[str, ...], until_ms: int) -> tuple[str, ...]:
        """Ids of a few transactions up to an instant."""
        return self._recent.examples(features, until_ms)

    def concentrated(self, until_ms: int) -> bool:
        """Whether what is flagged comes from few cards."""
        return self._recent.concentrated(until_ms)

    def performance_alarm(self) -> str | None:
        """What matured labels say, when it is bad."""
        return None

    def adwin(self) -> bool:
        """Whether ADWIN saw the mean score change since it was last asked."""
        return self._mean_score.asked()
