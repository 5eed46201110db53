"""From evidence to incidents: one for each cause, opened once, closed when it is over, told in a sentence.

A fold over evaluations. A feature that alarms opens an incident, unless it or a companion already has one: features
that move together (cashback follows monto) share it. After an incident a feature keeps silent for its cooldown. An
incident is over when every member has stayed below half the tolerance, by its lower bound and over a day.

What few cards explain is one incident, whichever features move. It covers a feature only while they explain its alarm,
and no cooldown follows: a real shift that begins beside a burst opens an incident of its own.

Time is passed in; it is the closed minutes' own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from monitoring.drift.evidence import FeatureEvidence
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Floats

Severity = Literal["warning", "critical"]
Kind = Literal["shift", "data", "burst", "attack"]  # population, pipeline, few cards, few cards that are flagged


@dataclass(frozen=True, kw_only=True)
class AlertPolicy:
    """When to speak."""

    cooldown_ms: int = DAY_MS  # of a feature, from when its incident opened
    clear_after_ms: int = 6 * HOUR_MS  # beside the day that `standing` looks back on
    together: float = 0.6  # absolute correlation from which features share an incident
    critical_psi: float = 0.25  # lower bound from which an incident is critical
    data_share: float = 0.5  # share of the change in MISSING or OTHER that makes it a data incident


@dataclass(frozen=True, kw_only=True)
class Incident:
    """Something moved, and has not come back yet."""

    incident_id: int
    opened_at_ms: int
    features: tuple[str, ...]  # by their share of the change and importance, the loudest first
    kind: Kind
    severity: Severity
    summary: str
    quiet_since_ms: int | None = None
    closed_at_ms: int | None = None

    @property
    def by_few_cards(self) -> bool:
        """Whether its cause is few cards."""
        return self.kind in ("burst", "attack")


@dataclass(frozen=True, kw_only=True)
class FewCards:
    """What is known of few cards that send much."""

    kind: Literal["burst", "attack"]
    active: bool
    summary: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """An incident opened, grew or closed: what `drift-alerts` carries."""

    change: Literal["opened", "grew", "closed"]
    incident: Incident
    evidence: tuple[FeatureEvidence, ...]  # of its features, in their order


@dataclass(frozen=True, kw_only=True)
class IncidentState:
    """The fold's state: which incidents are open and which features must keep silent."""

    opened: tuple[Incident, ...] = ()
    silent_until_ms: dict[str, int] = field(default_factory=dict)
    last_id: int = 0


def correlated_groups(
    names: Sequence[str], correlation: Floats, threshold: float = AlertPolicy.together
) -> dict[str, str]:
    """Which group each feature is of: connected by absolute correlation at or above the threshold; named by its first.

    correlation: of the reference, shape (n_features, n_features); NaN, as of a constant, connects nothing.

    >>> correlated_groups(["monto", "hour", "cashback"], np.array([[1, 0, 0.81], [0, 1, 0], [0.81, 0, 1]]))
    {'monto': 'monto', 'hour': 'hour', 'cashback': 'monto'}
    """
    group = list(range(len(names)))
    for i, j in zip(*np.nonzero(np.abs(np.nan_to_num(correlation)) >= threshold), strict=True):
        keep, drop = sorted((group[i], group[j]))
        group = [keep if g == drop else g for g in group]
    return {name: names[g] for name, g in zip(names, group, strict=True)}


def update_incidents(
    book: IncidentState,
    evidence: Sequence[FeatureEvidence],
    now_ms: int,
    groups: dict[str, str] | None = None,
    policy: AlertPolicy | None = None,
    few_cards: FewCards | None = None,
) -> tuple[IncidentState, tuple[Change, ...]]:
    """Take in one evaluation: the next book, and what changed, closings first.

    evidence: of every feature; now_ms: end of the last closed minute; groups: as `companions` makes them; few_cards:
    None while nothing is known of any.
    """
    policy, groups = policy or AlertPolicy(), groups or {}
    known = {e.feature: e for e in evidence}
    changes: list[Change] = []
    still: list[Incident] = []
    for incident in book.opened:
        if incident.by_few_cards:
            loud = few_cards is not None and few_cards.active
            followed = _aged(incident, loud or any(e.few_cards for e in evidence), now_ms, policy)
        else:
            followed = _followed(incident, known, now_ms, policy)
        if followed.closed_at_ms is None:
            still.append(followed)
        else:
            changes.append(_change("closed", followed, known))
    silent = {name: until for name, until in book.silent_until_ms.items() if until > now_ms}
    covered = {name for i in still if not i.by_few_cards for name in i.features}
    speaking = [e for e in evidence if e.alarmed and e.feature not in covered and e.feature not in silent]
    alarmed = [e.feature for e in speaking if not e.few_cards]
    last_id = book.last_id
    if few_cards is not None and (theirs := [e.feature for e in speaking if e.few_cards]):
        place = next((i for i, x in enumerate(still) if x.by_few_cards), None)
        if place is None:
            last_id += 1
            still.append(_of_few_cards(last_id, now_ms, theirs, known, few_cards))
            changes.append(_change("opened", still[-1], known))
        else:
            old = still[place]
            both = list(dict.fromkeys((*old.features, *theirs)))
            worse = few_cards.kind == "attack" and old.kind == "burst"
            new = _of_few_cards(old.incident_id, old.opened_at_ms, both, known, few_cards)
            # The cause is named already: that it moves one more feature is no news.
            still[place] = new if worse else replace(old, features=tuple(both), quiet_since_ms=None)
            if worse:
                changes.append(_change("grew", new, known))
    for group, names in _by_group(alarmed, groups).items():
        silent.update(dict.fromkeys(names, now_ms + policy.cooldown_ms))
        place = next(
            (
                i
                for i, x in enumerate(still)
                if not x.by_few_cards and any(groups.get(f, f) == group for f in x.features)
            ),
            None,
        )
        if place is None:
            last_id += 1
            incident = _incident(last_id, now_ms, names, known, policy)
            still.append(incident)
            changes.append(_change("opened", incident, known))
        else:
            old = still[place]
            still[place] = _incident(old.incident_id, old.opened_at_ms, (*old.features, *names), known, policy)
            changes.append(_change("grew", still[place], known))
    return IncidentState(opened=tuple(still), silent_until_ms=silent, last_id=last_id), tuple(changes)


def _followed(incident: Incident, known: dict[str, FeatureEvidence], now_ms: int, policy: AlertPolicy) -> Incident:
    """The incident an evaluation later: loud again, quiet for longer, or over."""
    seen = [known[f] for f in incident.features if f in known]
    # What is surely there keeps it open, and so does what still stands: that a bound is low may only mean few rows.
    loud = any(e.alarmed or max(e.lower_bound, e.standing) >= e.tolerance / 2 for e in seen)
    return _aged(incident, loud, now_ms, policy)


def _aged(incident: Incident, loud: bool, now_ms: int, policy: AlertPolicy) -> Incident:
    if loud:
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
    )


def _incident(
    incident_id: int, opened_at_ms: int, names: Sequence[str], known: dict[str, FeatureEvidence], policy: AlertPolicy
) -> Incident:
    ranked = sorted((known[n] for n in names if n in known), key=lambda e: (-e.psi * (1 + e.importance), e.feature))
    kind: Kind = "data" if any(e.data_share >= policy.data_share for e in ranked) else "shift"
    severe = kind == "data" or any(e.lower_bound >= policy.critical_psi for e in ranked)
    return Incident(
        incident_id=incident_id,
        opened_at_ms=opened_at_ms,
        features=tuple(e.feature for e in ranked),
        kind=kind,
        severity="critical" if severe else "warning",
        summary=summary(ranked, kind),
    )


def summary(evidence: Sequence[FeatureEvidence], kind: Kind) -> str:
    """What happened, for people; evidence: of the incident's features, the loudest first."""
    first = evidence[0]
    change = np.array(first.current) - np.array(first.reference)
    place = int(np.argmax(np.where(change > 0, first.contributions, -1.0)))
    where = "values missing" if place == len(first.labels) - 1 else first.labels[place]
    moved = (
        f"{first.feature} moved: {where} went from {first.reference[place]:.1%} to {first.current[place]:.1%} "
        f"within {first.window} (PSI {first.psi:.3f}, surely above {first.lower_bound:.3f})"
    )
    others = [e.feature for e in evidence[1:]]
    along = f"; {', '.join(others)} moved with it" if others else ""
    advice = "; look at the pipeline before the model" if kind == "data" else ""
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
