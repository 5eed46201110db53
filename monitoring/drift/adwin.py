"""A second opinion on the score: river's ADWIN. Reported beside the detector, never acted on."""

from river.drift import ADWIN


class ScoreAdwin:
    """Whether the mean score changed, as ADWIN sees it.

    Source: Bifet & Gavalda (2007), Learning from Time-Changing Data with Adaptive Windowing.
    """

    def __init__(self, delta: float = 0.002) -> None:
        """delta: ADWIN's own confidence parameter, river's default."""
        self._adwin = ADWIN(delta=delta)
        self._changed = False

    def add(self, score: float) -> None:
        """Take in a score."""
        self._adwin.update(score)
        self._changed |= bool(self._adwin.drift_detected)

    def asked(self) -> bool:
        """Whether it changed since this was last asked."""
        changed, self._changed = self._changed, False
        return changed
