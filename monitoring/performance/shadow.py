"""Shadow scoring: a challenger scores the champion's live transactions, for comparison of outcomes and scores."""

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from scoring.decision import OUTCOMES, outcome_codes
from scoring.features import featurize
from scoring.input.cleaning import CleanedBatch

CELLS = 20  # bins of equal width of the score histograms over [0, 1]


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes and scores of two versions on the same transactions."""

    model: str
    champion: int
    challenger: int
    transactions: int  # scored by both versions
    rejected: int  # dead letters
    unlogged: int  # not scored: transactions whose profile features are not logged
    agreement: float | None  # share of transactions with the same outcome
    outcomes: tuple[tuple[int, ...], ...]  # rows: champion, columns: challenger, each in the order of `OUTCOMES`
    mean_difference: float | None  # mean of challenger's score minus champion's
    champion_scores: tuple[int, ...]  # histogram over [0, 1]
    challenger_scores: tuple[int, ...]


class Shadow:
    """Compares two versions: a fold over batches. It publishes no decision."""

    def __init__(self, champion: MonitoredModel, challenger: MonitoredModel) -> None:
        self._models = champion, challenger
        self._outcomes = np.zeros((len(OUTCOMES), len(OUTCOMES)), dtype=np.int64)
        self._cells = np.zeros((2, CELLS), dtype=np.int64)
        self._difference = 0.0
        self._rejected = self._unlogged = 0

    def update(self, cleaned: CleanedBatch, unlogged: int = 0) -> None:
        """Score a cleaned batch with both versions.

        unlogged: transactions that are left out, because the values of their profile features are not logged.
        """
        self._unlogged += unlogged
        self._rejected += len(cleaned.rejections)
        scores = [m.score(featurize(m.encoding, cleaned.columns)) for m in self._models]
        codes = [outcome_codes(s, m.manifest.points) for s, m in zip(scores, self._models, strict=True)]
        np.add.at(self._outcomes, tuple(codes), 1)
        self._difference += float((scores[1] - scores[0]).sum())
        for i, s in enumerate(scores):
            self._cells[i] += np.bincount(np.minimum((s * CELLS).astype(np.intp), CELLS - 1), minlength=CELLS)

    def report(self) -> ShadowReport:
        """Comparison over all batches so far."""
        n = int(self._outcomes.sum())
        champion, challenger = self._models
        return ShadowReport(
            model=champion.manifest.model,
            champion=champion.version,
            challenger=challenger.version,
            transactions=n,
            rejected=self._rejected,
            unlogged=self._unlogged,
            agreement=float(np.trace(self._outcomes) / n) if n else None,
            outcomes=tuple(tuple(row) for row in self._outcomes.tolist()),
            mean_difference=self._difference / n if n else None,
            champion_scores=tuple(self._cells[0].tolist()),
            challenger_scores=tuple(self._cells[1].tolist()),
        )
