"""Drift that few cards explain: lower bounds without their rows, and the finding for the incident."""

from collections.abc import Mapping, Sequence

import numpy as np

from monitoring.alerting.incidents import FewCards
from monitoring.counting.windows import WINDOWS
from monitoring.drift.concentration import Burst
from monitoring.drift.detector import DetectorPolicy, WindowStatistics, lower_bounds_without_share
from monitoring.drift.reference import DriftReference
from scoring.arrays import Flags, Floats, Ints

MIN_EXPLAINED_SHARE = 0.005  # of a window's rows; a smaller share cannot move a statistic beyond its tolerance


def bounds_without_few_cards(
    reference: DriftReference,
    policy: DetectorPolicy,
    statistics: WindowStatistics,
    counts: Ints,
    expected: Floats,
    bursts: Mapping[str, Burst],
) -> Floats:
    """Lower bounds of PSI without the rows of few cards, shape (n_windows, n_features); unchanged for small shares.

    counts: by code, shape (n_windows, n_codes); expected: shape (n_windows, n_features, n_bins).
    """
    shares = np.array([bursts[w.name].share for w in WINDOWS])
    found = np.nan_to_num(statistics.psi_lower_bound)
    some = shares >= MIN_EXPLAINED_SHARE
    if some.any():
        binned = reference.bins.counts_by_bin(counts[some])
        less = lower_bounds_without_share(binned, expected[some], shares[some], reference.baseline, policy)
        found[some] = np.minimum(found[some], np.nan_to_num(less))
    return found


def explained_features(
    bursts: Mapping[str, Burst], statistics: WindowStatistics, by_cusum: Flags, exceeds_without: Flags
) -> Flags:
    """Mask of the alarmed features that few cards explain, shape (n_features,).

    by_cusum: alarms of the e-CUSUM, shape (n_features,); exceeds_without: windows that exceed the tolerance without
    these cards, shape (n_windows, n_features). Rows cannot be removed from the e-CUSUM; its alarm is explained while
    the burst lasts and no window exceeds.
    """
    found: Flags = (by_cusum | statistics.exceeds.any(axis=0)) & ~(statistics.exceeds & exceeds_without).any(axis=0)
    return found & (~by_cusum | bursts["15 min"].active)


def few_cards_finding(bursts: Mapping[str, Burst], attack: bool, flagged: Sequence[bytes]) -> FewCards | None:
    """Finding for the incident; None if few cards send no more than usual.

    attack: few cards cause the alerts. flagged: cards with many flagged transactions. An attack names these, because a
    merchant's batch upload at the same time is no part of it.
    """
    name, burst = max(bursts.items(), key=lambda b: b[1].share)
    if not burst.share:
        if not attack:
            return None
        return FewCards(kind="attack", active=True, summary="few cards raise the alert rate", cards=tuple(flagged))
    n = len(burst.cards)
    summary = (
        f"{n} card{'s' if n > 1 else ''} sent {burst.share:.0%} of the transactions within {name}, "
        "beyond their usual share"
    )
    return FewCards(
        kind="attack" if attack else "burst",
        active=bursts["1 h"].active or attack,
        summary=summary,
        cards=tuple(flagged) or burst.cards if attack else burst.cards,
    )
