"""What the page shows, as it travels to the browser once a second. Times are milliseconds since 1970."""

from typing import Literal

import msgspec

from schemas.records import ModelChange, ModelEvent, Outcome


class Seconds(msgspec.Struct, frozen=True, kw_only=True):
    """The last whole seconds, oldest first; every list is as long as `at_ms`."""

    at_ms: tuple[int, ...]
    decisions: tuple[int, ...]
    dead_letters: tuple[int, ...]
    p50_ms: tuple[float | None, ...]  # None: no transaction of that second was looked up
    p99_ms: tuple[float | None, ...]


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, as a row of the page's table."""

    transaction_id: str
    decided_at_ms: int
    outcome: Outcome
    score: float
    model_version: int
    reasons: tuple[str, ...]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How something lies now, and how it lay in the reference: shares of each bin, each adding up to one."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    rows: int  # that `current` counts


class IncidentView(msgspec.Struct, frozen=True, kw_only=True):
    """An open incident, as its last alert tells it."""

    incident_id: str
    kind: Literal["shift", "data", "burst", "attack"]
    severity: Literal["warning", "critical"]
    model_version: int
    features: tuple[str, ...]  # the loudest first
    summary: str
    opened_at_ms: int  # event time
    happened_at_ms: int


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is better by proof and waits for a person."""

    version: int
    since_ms: int
    reason: str
    correlation_id: str | None


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """Who looks at the page."""

    user: str | None  # None: the page asks nobody
    may_approve: bool


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that changes by the second."""

    now_ms: int
    model: str
    away: str | None  # why nothing new is read, in one line; None: it is
    passed_over: int  # records on our topics that are none of ours, so far
    unread: int  # decisions that were only counted, because they came faster than they are read, so far
    seconds: Seconds
    outcomes: dict[Outcome, int]  # of the last minutes
    dead_letters: dict[str, int]  # by code, of the last minutes
    versions: dict[int, int]  # decisions by model version, of the last minutes
    score: Histogram | None  # None: no reference, or no decisions
    recent: tuple[Recent, ...]  # newest first
    incidents: tuple[IncidentView, ...]  # open; critical ones first, then the longest open
    events: tuple[ModelEvent, ...]  # newest first
    waiting: tuple[Waiting, ...]
    registry: str | None  # why it is not known who waits; None: it is
    disagreement: str | None  # how the registry's alias differs from its history of promotions; None: it does not
    evaluations: int  # grows with every report: then the heat map is to be fetched again


class HeatRow(msgspec.Struct, frozen=True, kw_only=True):
    """One feature over time; every list is as long as the map's `until_ms`."""

    feature: str
    tolerance: float | None  # PSI that its lower bound may reach; None: no reference at hand
    psi: tuple[float | None, ...]
    beyond_chance: tuple[float | None, ...]  # PSI less its mean where nothing moved
    lower_bound: tuple[float | None, ...]
    exceeds: tuple[bool, ...]  # the lower bound is above the tolerance: this alerts


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """PSI by feature and event time, oldest first."""

    window: str
    until_ms: tuple[int, ...]
    versions: tuple[int, ...]  # of the model that decided then
    rows: tuple[HeatRow, ...]


class FeatureSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's two distributions over the last window that was evaluated."""

    feature: str
    window: str
    model_version: int
    from_ms: int
    until_ms: int
    psi: float | None
    lower_bound: float | None
    tolerance: float
    histogram: Histogram


class PromotionReply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an approval or a rejection."""

    version: int
    change: ModelChange
    by: str
    warning: str | None  # why nobody could be told; the move stands all the same
