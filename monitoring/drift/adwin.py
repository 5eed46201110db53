"""ADWIN (river) on the mean score. Informational: reported, but causes no alert."""

from river.drift import ADWIN


class ScoreAdwin:
    """Detects a change of the mean score with ADWIN: a fold over scores.

    Source: Bifet & Gavalda (2007), Learning from Time-Changing Data with Adaptive Windowing.
    """

    def __init__(self, delta: float = 0.002) -> None:
        """delta: confidence parameter of ADWIN; the default is river's."""
        self._adwin = ADWIN(delta=delta)
        self._changed = False

    def update(self, score: float) -> None:
        """Add a score."""
        self._adwin.update(score)
        self._changed |= bool(self._adwin.drift_detected)

    def pop_change(self) -> bool:
        """Whether the mean changed since the previous call."""
        changed, self._changed = self._changed, False
        return changed
