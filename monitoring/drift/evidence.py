"""Drift evidence per feature from one evaluation, the input of alerting and retraining policies."""

import numpy as np
import numpy.typing as npt

from monitoring.counting.bins import FrozenBins
from monitoring.counting.reference_profile import ALERT
from monitoring.counting.windows import WINDOWS
from monitoring.drift.detector import WindowStatistics
from schemas.records import DriftEvidence
from scoring.arrays import Flags, Floats, Ints

SUSTAINED_WINDOWS = [next(i for i, w in enumerate(WINDOWS) if w.name == name) for name in ("24 h", "7 d")]


class FeatureEvidence(DriftEvidence, frozen=True, kw_only=True):
    """Evidence for drift of one feature, from one window of one evaluation, with what decides about an alert.

    The last bin is MISSING; the one before it is OTHER, for a category.
    """

    alarmed: bool  # by either layer
    category: bool = False
    importance: float = 0.0
    share: float = 0.0  # known only among the features of an alert: `of_alert`
    few_cards: bool = False  # alarmed, and few cards explain it
    sustained_psi: float = 0.0  # PSI minus its mean without drift, over 24 h, or over 7 d if 24 h have too few rows

    def of_alert(self, share: float) -> DriftEvidence:
        """The evidence as an alert has it. share: contribution to the change of all features, in [0, 1]."""
        fields = {name: getattr(self, name) for name in DriftEvidence.__struct_fields__}
        return DriftEvidence(**fields | {"share": share})

    @property
    def contributions(self) -> Floats:
        """Contribution of each bin to PSI, in nats."""
        return _contributions(np.array(self.reference), np.array(self.current))

    @property
    def data_share(self) -> float:
        """Share of the change due to broken data, in [0, 1]: growth of MISSING or OTHER, or vanished categories.

        Computed as the part of PSI that disappears when only the other bins are compared. When values are missing, the
        other bins shrink in proportion, which is not a change of their distribution.
        """
        parts = self.contributions
        broken = np.zeros(len(parts), dtype=bool)
        broken[-1] = self.current[-1] > self.reference[-1]
        if self.category:
            broken[-2] = self.current[-2] > self.reference[-2]
            broken |= (np.array(self.current) < 0.1 * np.array(self.reference)) & (parts > 0)
        r, c = np.array(self.reference)[~broken], np.array(self.current)[~broken]
        total = parts.sum()
        if not broken.any() or total <= 0:
            return 0.0
        if not (r.sum() > 0 and c.sum() > 0):
            return 1.0
        rest = _contributions(r / r.sum(), c / c.sum()).sum()
        return float(np.clip(1 - rest / total, 0, 1))


def collect_evidence(
    bins: FrozenBins,
    statistics: WindowStatistics,
    counts: Ints,
    expected: Floats,
    tolerances: Floats,
    importance: Floats,
    alarmed: Flags,
    window: str | None = None,
) -> list[FeatureEvidence]:
    """Evidence of every feature with rows, from one window or, if None, from the window with the strongest drift.

    counts: by code, shape (n_windows, n_codes); expected: shape (n_windows, n_features, n_bins); tolerances,
    importance, alarmed: shape (n_features,), the last one e-CUSUM alarms since the last evaluation.
    """
    names = [w.name for w in WINDOWS]
    binned = bins.counts_by_bin(counts)
    # Ranks by lower bound; if the bounds are zero by corrected PSI, then the shorter window.
    strength = np.nan_to_num(statistics.psi_lower_bound) + 1e-6 * np.nan_to_num(statistics.psi_corrected)
    strongest = np.where(statistics.rows > 0, strength, -np.inf).argmax(axis=0)
    found = []
    for i, feature in enumerate(bins.features):
        w = int(strongest[i]) if window is None else names.index(window)
        if not statistics.rows[w, i]:
            continue
        found.append(
            FeatureEvidence(
                feature=feature.name,
                alarmed=bool(alarmed[i] or statistics.exceeds[:, i].any()),
                window=names[w],
                psi=float(statistics.psi[w, i]),
                psi_lower_bound=float(statistics.psi_lower_bound[w, i]),
                tolerance=float(tolerances[i]),
                reference=_shares(expected[w, i, : feature.n_bins]),
                current=_shares(binned[w, i, : feature.n_bins]),
                labels=feature.labels,
                # A higher alert rate indicates a shifted population; more dead letters indicate broken data.
                category=feature.kind == "category" and feature.name != ALERT,
                importance=float(importance[i]),
                sustained_psi=_sustained_psi(statistics, i),
            )
        )
    return found


def grown_bin(evidence: DriftEvidence) -> int:
    """Index of the bin that grew most: of the bins with a larger share, the one that contributes most to PSI."""
    reference, current = np.array(evidence.reference), np.array(evidence.current)
    return int(np.argmax(np.where(current > reference, _contributions(reference, current), -1.0)))


def _sustained_psi(statistics: WindowStatistics, feature: int) -> float:
    for window in SUSTAINED_WINDOWS:
        if statistics.enough_rows[window, feature]:
            return float(statistics.psi_corrected[window, feature])
    return 0.0


def _contributions(reference: Floats, current: Floats) -> Floats:
    both = (reference > 0) & (current > 0)
    ratio = np.where(both, current, 1.0) / np.where(both, reference, 1.0)
    return np.asarray((current - reference) * np.log(ratio))


def _shares(counts: npt.NDArray[np.generic]) -> tuple[float, ...]:
    return tuple((counts / counts.sum()).tolist())
