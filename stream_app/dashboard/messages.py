"""The dashboard's messages to the browser, sent once a second. Times are in milliseconds since 1970 (UTC)."""

from typing import Literal

import msgspec

from schemas.records import ModelChange, ModelEvent, Outcome


class Seconds(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and latencies of the last whole seconds, oldest first. All tuples have the length of `at_ms`."""

    at_ms: tuple[int, ...]
    decisions: tuple[int, ...]
    dead_letters: tuple[int, ...]
    p50_ms: tuple[float | None, ...]  # None: no transaction of that second was sampled
    p99_ms: tuple[float | None, ...]


class RecentDecision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision, as a row of the page's table."""

    transaction_id: str
    decided_at_ms: int
    outcome: Outcome
    score: float
    model_version: int
    reasons: tuple[str, ...]


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """Two binned distributions: shares per bin, each summing to 1."""

    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    rows: int  # number of rows in `current`


class IncidentView(msgspec.Struct, frozen=True, kw_only=True):
    """An open incident, as of its last alert."""

    incident_id: str
    kind: Literal["shift", "data", "burst", "attack", "rule"]
    severity: Literal["warning", "critical"]
    model_version: int
    features: tuple[str, ...]  # strongest drift first
    summary: str
    opened_at_ms: int  # event time
    happened_at_ms: int
    cards: tuple[str, ...]  # of an attack or burst, exactly as their transactions name them


class PendingApproval(msgspec.Struct, frozen=True, kw_only=True):
    """A version that beat the champion and waits for approval."""

    version: int
    since_ms: int
    reason: str
    correlation_id: str | None


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The signed-in user."""

    user: str | None  # None: authentication is off
    may_review: bool  # give verdicts and change lists
    may_approve: bool


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that changes from second to second."""

    now_ms: int
    model: str
    reading_error: str | None  # why no records are read, in one line; None: no error
    skipped_records: int  # invalid records on Tamiz' topics since the start
    unread_decisions: int  # decisions only counted because of lag, since the start
    seconds: Seconds
    outcomes: dict[Outcome, int]  # of the last minutes
    dead_letters: dict[str, int]  # by code, of the last minutes
    versions: dict[int, int]  # decisions by model version, of the last minutes
    score: Histogram | None  # None: no reference, or no decisions
    recent: tuple[RecentDecision, ...]  # newest first
    incidents: tuple[IncidentView, ...]  # open; critical ones first, then the longest open
    events: tuple[ModelEvent, ...]  # newest first
    pending_approvals: tuple[PendingApproval, ...]
    registry_error: str | None  # why pending approvals are not known; None: no error
    registry_inconsistency: str | None  # damaged history, or an alias that differs from it; None: neither
    reviews_waiting: int  # transactions sent to review that have no label
    evaluations: int  # grows with every report; the browser then fetches the heat map again


class HeatRow(msgspec.Struct, frozen=True, kw_only=True):
    """One feature over time. All tuples have the length of the map's `until_ms`."""

    feature: str
    tolerance: float | None  # tolerated PSI, compared with the lower bound; None: no reference available
    psi: tuple[float | None, ...]
    beyond_chance: tuple[float | None, ...]  # PSI minus its expected value without drift
    lower_bound: tuple[float | None, ...]
    exceeds: tuple[bool, ...]  # the lower bound exceeds the tolerance, which raises an alert


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """PSI by feature and event time, oldest first."""

    window: str
    until_ms: tuple[int, ...]
    versions: tuple[int, ...]  # model version in service then
    rows: tuple[HeatRow, ...]


class FeatureSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One feature's distributions, reference and current, over the last evaluated window."""

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
    """Result of an approval or a rejection."""

    version: int
    change: ModelChange
    by: str
    warning: str | None  # why the model event was not published; the change holds regardless
