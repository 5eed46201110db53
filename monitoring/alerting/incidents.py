"""Incidents: groups drift evidence by cause; each incident opens once, may grow, and closes when the drift is over.

A fold over evaluations. An alarm of a feature opens an incident, unless the feature or one of its correlated group has
an open one: correlated features (cashback follows monto) share an incident. After opening one, a feature is silent for
its cooldown. An incident closes when, for every feature, the lower bound and the 24 h statistic have stayed below half
the tolerance.

Drift that few cards explain is one incident for all features. It covers a feature only while these cards explain its
alarm, and no cooldown follows: a real shift that begins during a burst opens its own incident.

Times are event times of closed minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from monitoring.drift.evidence import FeatureEvidence, grown_bin
from schemas.records import MAX_ALERT_CARDS
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Floats

Severity = Literal["warning", "critical"]
# shift: the population changed; data: the pipeline changed; burst: few cards; attack: few cards with high scores
Kind = Literal["shift", "data", "burst", "attack"]


@dataclass(frozen=True, kw_only=True)
class AlertPolicy:
    """Thresholds of incidents."""

    cooldown_ms: int = DAY_MS  # per feature, from the opening of its incident
    clear_after_ms: int = 6 * HOUR_MS  # time below the limit before an incident closes
    min_correlation: float = 0.6  # minimum absolute correlation of features that share an incident
    critical_psi: float = 0.25  # minimum lower bound of a critical incident
    data_share: float = 0.5  # minimum share of the change in MISSING or OTHER of a data incident


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Drift of one cause."""

    incident_id: int
    opened_at_ms: int
    features: tuple[str, ...]  # by PSI and importance, strongest first
    kind: Kind
    severity: Severity
    summary: str
    cards: tuple[bytes, ...] = ()  # keys of the few cards that cause it, in the order in which they were found
    quiet_since_ms: int | None = None
    closed_at_ms: int | None = None

    @property
    def by_few_cards(self) -> bool:
        """Whether few cards cause it."""
        return self.kind in ("burst", "attack")


@dataclass(frozen=True, kw_only=True)
class FewCards:
    """Finding that few cards send a large share of the traffic."""

    kind: Literal["burst", "attack"]
    active: bool
    summary: str
    cards: tuple[bytes, ...] = ()  # keys, the busiest first


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of an incident; becomes a `DriftAlert`."""

    change: Literal["opened", "grew", "closed"]
    incident: Incident
    evidence: tuple[FeatureEvidence, ...]  # of its features, in the same order


@dataclass(frozen=True, kw_only=True)
class IncidentState:
    """State of the fold: open incidents, and the end of each feature's cooldown."""

    open_incidents: tuple[Incident, ...] = ()
    silent_until_ms: dict[str, int] = field(default_factory=dict)
    last_id: int = 0


def correlated_groups(
    names: Sequence[str], correlation: Floats, threshold: float = AlertPolicy.min_correlation
) -> dict[str, str]:
    """Group of each feature: connected components of absolute correlation >= threshold, named by their first member.

    correlation: of the reference, shape (n_features, n_features); NaN, as for a constant, connects nothing.

    >>> correlated_groups(["monto", "hour", "cashback"], np.array([[1, 0, 0.81], [0, 1, 0], [0.81, 0, 1]]))
    {'monto': 'monto', 'hour': 'hour', 'cashback': 'monto'}
    """
    group = list(range(len(names)))
    for i, j in zip(*np.nonzero(np.abs(np.nan_to_num(correlation)) >= threshold), strict=True):
        keep, drop = sorted((group[i], group[j]))
        group = [keep if g == drop else g for g in group]
    return {name: names[g] for name, g in zip(names, group, strict=True)}


def update_incidents(
    state: IncidentState,
    evidence: Sequence[FeatureEvidence],
    now_ms: int,
    groups: dict[str, str] | None = None,
    policy: AlertPolicy | None = None,
    few_cards: FewCards | None = None,
) -> tuple[IncidentState, tuple[Change, ...]]:
    """Apply one evaluation; returns the next state and the changes, closings first.

    evidence: of every feature; now_ms: end of the last closed minute; groups: from `correlated_groups`; few_cards:
    None if no few cards send more than usual.
    """
    policy, groups = policy or AlertPolicy(), groups or {}
    known = {e.feature: e for e in evidence}
    changes: list[Change] = []
    open_incidents: list[Incident] = []
    for incident in state.open_incidents:
        if incident.by_few_cards:
            active = few_cards is not None and few_cards.active
            evaluated = _with_quiet_time(incident, active or any(e.few_cards for e in evidence), now_ms, policy)
        else:
            evaluated = _evaluated(incident, known, now_ms, policy)
        if evaluated.closed_at_ms is None:
            open_incidents.append(evaluated)
        else:
            changes.append(_change("closed", evaluated, known))
    silent = {name: until for name, until in state.silent_until_ms.items() if until > now_ms}
    covered = {name for i in open_incidents if not i.by_few_cards for name in i.features}
    new_alarms = [e for e in evidence if e.alarmed and e.feature not in covered and e.feature not in silent]
    alarmed = [e.feature for e in new_alarms if not e.few_cards]
    last_id = state.last_id
    if few_cards is not None and (of_few_cards := [e.feature for e in new_alarms if e.few_cards]):
        index = next((i for i, x in enumerate(open_incidents) if x.by_few_cards), None)
        if index is None:
            last_id += 1
            open_incidents.append(_of_few_cards(last_id, now_ms, of_few_cards, known, few_cards))
            changes.append(_change("opened", open_incidents[-1], known))
        else:
            old = open_incidents[index]
            features = list(dict.fromkeys((*old.features, *of_few_cards)))
            worse = few_cards.kind == "attack" and old.kind == "burst"
            new = _of_few_cards(old.incident_id, old.opened_at_ms, features, known, few_cards)
            # The cause is already reported, so one more feature is not a new alert. A further card of an attack is.
            cards = _joined_cards(old, few_cards)
            same = replace(old, features=tuple(features), cards=cards, quiet_since_ms=None)
            open_incidents[index] = new if worse else same
            if worse or (few_cards.kind == "attack" and len(cards) > len(old.cards)):
                changes.append(_change("grew", open_incidents[index], known))
    for group, names in _by_group(alarmed, groups).items():
        silent.update(dict.fromkeys(names, now_ms + policy.cooldown_ms))
        index = next(
            (
                i
                for i, x in enumerate(open_incidents)
                if not x.by_few_cards and any(groups.get(f, f) == group for f in x.features)
            ),
            None,
        )
        if index is None:
            last_id += 1
            incident = _incident(last_id, now_ms, names, known, policy)
            open_incidents.append(incident)
            changes.append(_change("opened", incident, known))
        else:
            old = open_incidents[index]
            open_incidents[index] = _incident(old.incident_id, old.opened_at_ms, (*old.features, *names), known, policy)
            changes.append(_change("grew", open_incidents[index], known))
    return IncidentState(open_incidents=tuple(open_incidents), silent_until_ms=silent, last_id=last_id), tuple(changes)


def _evaluated(incident: Incident, known: dict[str, FeatureEvidence], now_ms: int, policy: AlertPolicy) -> Incident:
    """The incident after one more evaluation: still active, quiet for longer, or closed."""
    seen = [known[f] for f in incident.features if f in known]
    # The 24 h statistic keeps the incident open, too, because a low bound may only mean that there are few rows.
    active = any(e.alarmed or max(e.psi_lower_bound, e.sustained_psi) >= e.tolerance / 2 for e in seen)
    return _with_quiet_time(incident, active, now_ms, policy)


def _with_quiet_time(incident: Incident, active: bool, now_ms: int, policy: AlertPolicy) -> Incident:
    if active:
        return replace(incident, quiet_since_ms=None)
    since = now_ms if incident.quiet_since_ms is None else incident.quiet_since_ms
    over = now_ms - since >= policy.clear_after_ms
    return replace(incident, quiet_since_ms=since, closed_at_ms=now_ms if over else None)


def _of_few_cards(
    incident_id: int, opened_at_ms: int, names: Sequence[str], known: dict[str, FeatureEvidence], few_cards: FewCards
) -> Incident:
    ranked = sorted(names, key=lambda n: (-known[n].psi if n in known else 0.0, n))
    return Incident(
        incident_id=incident_id,
        opened_at_ms=opened_at_ms,
        features=tuple(ranked),
        kind=few_cards.kind,
        severity="critical" if few_cards.kind == "attack" else "warning",
        summary=f"{few_cards.summary}; {', '.join(ranked)} moved with it",
        cards=few_cards.cards[:MAX_ALERT_CARDS],
    )


def _joined_cards(incident: Incident, few_cards: FewCards) -> tuple[bytes, ...]:
    """Cards of an incident that continues. A burst that follows an attack does not add its cards to the attack's."""
    if few_cards.kind != incident.kind:
        return incident.cards
    return tuple(dict.fromkeys((*incident.cards, *few_cards.cards)))[:MAX_ALERT_CARDS]


def _incident(
    incident_id: int, opened_at_ms: int, names: Sequence[str], known: dict[str, FeatureEvidence], policy: AlertPolicy
) -> Incident:
    ranked = sorted((known[n] for n in names if n in known), key=lambda e: (-e.psi * (1 + e.importance), e.feature))
    kind: Kind = "data" if any(e.data_share >= policy.data_share for e in ranked) else "shift"
    severe = kind == "data" or any(e.psi_lower_bound >= policy.critical_psi for e in ranked)
    return Incident(
        incident_id=incident_id,
        opened_at_ms=opened_at_ms,
        features=tuple(e.feature for e in ranked),
        kind=kind,
        severity="critical" if severe else "warning",
        summary=incident_summary(ranked, kind),
    )


def incident_summary(evidence: Sequence[FeatureEvidence], kind: Kind) -> str:
    """Text of an alert, one sentence. evidence: of the incident's features, strongest first."""
    first = evidence[0]
    index = grown_bin(first)
    where = "values missing" if index == len(first.labels) - 1 else first.labels[index]
    moved = (
        f"{first.feature} moved: {where} went from {first.reference[index]:.1%} to {first.current[index]:.1%} "
        f"within {first.window} (PSI {first.psi:.3f}, lower bound {first.psi_lower_bound:.3f})"
    )
    others = [e.feature for e in evidence[1:]]
    along = f"; {', '.join(others)} moved with it" if others else ""
    advice = "; check the data pipeline before the model" if kind == "data" else ""
    return moved + along + advice


def _change(
    change: Literal["opened", "grew", "closed"], incident: Incident, known: dict[str, FeatureEvidence]
) -> Change:
    return Change(change=change, incident=incident, evidence=tuple(known[f] for f in incident.features if f in known))


def _by_group(names: Sequence[str], groups: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(groups.get(name, name), []).append(name)
    return found
