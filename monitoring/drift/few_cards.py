"""Whether few cards explain what moved: then it is one incident, and no shift of the population."""

from collections.abc import Mapping

import numpy as np

from monitoring.alerting.incidents import FewCards
from monitoring.counting.windows import WINDOWS
from monitoring.drift.concentration import Burst
from monitoring.drift.detector import DetectorPolicy, WindowStatistics, lower_bounds_without
from monitoring.drift.reference import DriftReference
from scoring.arrays import Flags, Floats, Ints

MIN_EXPLAINED_SHARE = 0.005  # of a window's rows; fewer move no statistic beyond its tolerance


def bounds_without(
    reference: DriftReference,
    policy: DetectorPolicy,
    statistics: WindowStatistics,
    counts: Ints,
    expected: Floats,
    bursts: Mapping[str, Burst],
) -> Floats:
    """PSI's lower bounds less what few cards sent, shape (n_windows, n_features); unchanged where that is little.

    counts: by code, shape (n_windows, n_codes); expected: shape (n_windows, n_features, n_bins).
    """
    shares = np.array([bursts[w.name].share for w in WINDOWS])
    found = np.nan_to_num(statistics.psi_lower_bound)
    some = shares >= MIN_EXPLAINED_SHARE
    if some.any():
        binned = reference.bins.binned(counts[some])
        less = lower_bounds_without(binned, expected[some], shares[some], reference.calibration, policy)
        found[some] = np.minimum(found[some], np.nan_to_num(less))
    return found


def explained_by(bursts: Mapping[str, Burst], statistics: WindowStatistics, by_cusum: Flags, still: Flags) -> Flags:
    """Which features' alarms few cards explain, shape (n_features,).

    by_cusum: alarms of the e-CUSUM, shape (n_features,); still: which windows exceed the tolerance without these cards,
    shape (n_windows, n_features). The e-CUSUM has no rows to take away; its alarm is explained while the burst lasts
    and no window exceeds.
    """
    found: Flags = (by_cusum | statistics.exceeds.any(axis=0)) & ~(statistics.exceeds & still).any(axis=0)
    return found & (~by_cusum | bursts["15 min"].active)


def few_cards_finding(bursts: Mapping[str, Burst], attack: bool) -> FewCards | None:
    """What to say of few cards; None when they send no more than usual. attack: the flagged come from few cards."""
    name, burst = max(bursts.items(), key=lambda b: b[1].share)
    if not burst.share:
        return FewCards(kind="attack", active=True, summary="more is flagged, from few cards") if attack else None
    n = len(burst.cards)
    summary = (
        f"{n} card{'s' if n > 1 else ''} sent {burst.share:.0%} of the transactions within {name}, "
        "beyond what is usual for them"
    )
    return FewCards(kind="attack" if attack else "burst", active=bursts["1 h"].active or attack, summary=summary)
