"""Records on the wire, all JSON. Field order is the order on the wire.

The types carry the bounds: a value beyond them is refused when the record is decoded, by every reader alike. What
several fields say together, and against the time of their record, is `stream_app.kafka.plausibility`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_OFFSET = 2**63 - 1  # Kafka's own
MAX_INT = 2**31 - 1
# The years from 1000 to 2200: transactions are from 1970 on (`scoring.input.time_parsing`), and what is asked for may
# begin before.
MIN_TIME_MS, MAX_TIME_MS = -30_610_224_000_000, 7_258_118_400_000

Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]
Partition = Annotated[int, Meta(ge=0, le=MAX_INT)]
Version = Annotated[int, Meta(ge=0, le=MAX_INT)]  # of a registered model
TimeMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS)]  # since 1970
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]  # sums of some still fit into 64 bits
Probability = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(max_length=500)]  # of a model, a feature, a layout, a window
Id = Annotated[str, Meta(max_length=1_000)]
Text = Annotated[str, Meta(max_length=100_000)]  # for people

Outcome = Literal["approve", "review", "decline"]
Severity = Literal["info", "warning", "critical"]  # of what people are told


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a transaction was not simply approved: one input's part in its score."""

    feature: Name
    value: Name | float | None  # as it was scored, before imputation; null where it was missing
    contribution: float  # to the margin, in log-odds; positive speaks for fraud
    text: Annotated[str, Meta(max_length=2_000)]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says of one transaction.

    It holds nothing that changes when the same transaction meets the same model again; when it was made is the record's
    Kafka timestamp.
    """

    decision_id: Id  # UUIDv5 of the transaction id: a redelivery gives the same, whichever model scores it
    transaction_id: Id  # the declared field, else a header, else its place, topic-partition-offset@topic id
    score: Probability  # probability of fraud, in [0, 1]
    outcome: Outcome
    threshold: Probability  # the lowest score that gives this outcome
    reasons: Annotated[tuple[Reason, ...], Meta(max_length=10)] = ()  # strongest first; empty for an approval
    model: Name
    model_version: Version
    event_time_ms: TimeMs  # set by the producer; windows follow this clock


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Why a payload cannot be scored. A value, not an exception."""

    row: int  # the payload's place in its batch
    code: str  # stable, kebab-case, few: metrics are labelled with it
    field: str | None  # None: the payload as a whole
    value: str  # what was seen, shortened to 100 characters
    expected: str  # what would have been accepted


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter went back to the transactions."""

    transaction_id: Id
    dead_letter: Id  # its place, topic-partition-offset@topic id
    consumed_from: Id  # place of the transaction that the dead letter is about
    redriven_at_ms: TimeMs


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction turned out to be, days to months later."""

    transaction_id: Id  # as its decision has it
    fraud: bool
    reported_at_ms: TimeMs


class PaneCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One minute of one input partition, counted; a later one of the same minute and partition replaces it.

    `codes` and `counts` are little-endian uint32 arrays of one length: the codes that occur, ascending, and how often.
    """

    start_ms: TimeMs
    rows: Count
    first_offset: Offset
    last_offset: Offset
    codes: bytes  # base64 on the wire
    counts: bytes


class WatermarkState(msgspec.Struct, frozen=True, kw_only=True):
    """All that a watermark is computed from; `monitoring.counting.watermark` says how."""

    confirmed_ms: TimeMs
    recent_ms: tuple[TimeMs, ...]  # the last event times
    since_ms: TimeMs  # minutes from here to the watermark are closed
    closed: tuple[tuple[TimeMs, TimeMs], ...]  # other ranges of closed minutes: the first, and the one after the last
    gap_ms: tuple[TimeMs, ...]  # event times of late rows where no minute was ever closed
    resets: Count  # how often the watermark fell back


class VersionMark(msgspec.Struct, frozen=True, kw_only=True):
    """How far another model version counted a partition."""

    model_version: Version
    watermark_ms: TimeMs


class PaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How far one partition is counted, and panes of it: those just closed, or those still open."""

    model: Name
    model_version: Version
    layout: Name  # digest of the codes that were counted
    partition: Partition
    last_offset: Annotated[int, Meta(ge=-1, le=MAX_OFFSET)]
    watermark_ms: TimeMs
    late: Count
    open: bool  # whether its minutes may still grow; then this is the cursor, from which another worker goes on
    panes: tuple[PaneCounts, ...]
    # Of the cursor alone; a cursor from before they were there lacks them.
    held: tuple[PaneCounts, ...] = ()  # minutes far ahead of the watermark; not to be evaluated yet
    dropped: Count = 0  # rows that were held and had to give way, so far
    state: WatermarkState | None = None
    others: tuple[VersionMark, ...] | None = None  # versions that counted the partition before, the last first
    topic_id: Name = ""  # incarnation of the input topic that the offsets are of; empty where it is not known


class DriftStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one window says of one feature; null where it says nothing, as KS of a category does."""

    feature: Name
    rows: Count
    psi: float | None  # CSI where the feature is an input; nats
    psi_corrected: float | None  # less its mean under no drift
    psi_decile: float | None  # the classic recipe, for comparison with other tools
    psi_lower_bound: float | None  # the population moved by at least this much
    kl: float | None  # of reference || current, nats
    js: float | None  # nats
    ks: float | None
    ks_p_value: float | None
    enough_rows: bool  # enough rows for the PSI to mean something
    exceeds: bool  # the bound is above the tolerance


class DriftWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One sliding window at one evaluation."""

    window: Name
    rows: Count
    features: tuple[DriftStatistics, ...]
    incomplete: int = 0  # minutes of it that lack a partition; above a twentieth, the window is not judged


class LabelledDay(msgspec.Struct, frozen=True, kw_only=True):
    """Transactions of one UTC day whose labels are final."""

    day_ms: TimeMs
    rows: Count
    frauds: Count
    expected_frauds: float  # by the sum of the scores


class PerformanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """What matured labels say of a model version; measures are of its last ones, null where they say nothing."""

    matured: int  # decisions old enough for their labels to be final, so far
    labelled: int  # of them, so far
    rows: int  # in the window that is measured
    frauds: int
    expected_frauds: float
    roc_auc: float | None
    claimed_roc_auc: float | None  # were every score the probability that it says it is
    average_precision: float | None
    recall: float | None  # of what the operating points flag
    label_delay_ms: int | None  # median
    days: tuple[LabelledDay, ...]  # by the transaction's date
    unknown_labels: int  # whose decision was not seen, so far
    revised_labels: int  # that contradict one that was counted, so far
    alarm: str | None  # why to train again


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation: every window, every feature."""

    model: Name
    model_version: Version
    until_ms: TimeMs  # event time up to which everything is counted
    late: int  # transactions that came after their minute had closed, so far
    lost: int  # transactions whose counts came too late to be merged or are dated in the future, so far
    windows: tuple[DriftWindow, ...]
    incidents: tuple[str, ...]  # ids of the open ones
    adwin: bool  # river's ADWIN on the mean score since the last report, beside ours: reported, never acted on
    performance: PerformanceReport | None = None  # what matured labels say of the version
    suspected_attack: bool  # alert rate and the score's tail up, from few cards
    incomplete: int = 0  # minutes that closed before every partition that contributes had, so far; they are not judged
    skew_ms: int = 0  # event time between the first and the last of the partitions that move
    skewed: tuple[int, ...] = ()  # partitions further from the others than `idle_partition_timeout_minutes`
    burst_share: float = 0.0  # of the last hour's transactions, what few cards sent beyond their usual share


class DriftEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert says of one feature, with both distributions so that a subscriber can draw them."""

    feature: Name
    window: Name
    psi: float
    psi_lower_bound: float
    tolerance: float
    importance: float  # share of the model's gain, in [0, 1]
    share: float  # of the change of all features together, in [0, 1]
    labels: tuple[str, ...]  # of the bins
    reference: tuple[float, ...]  # share of each bin, expected at these hours
    current: tuple[float, ...]


class DriftAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An incident opened, grew or closed."""

    incident_id: Id
    change: Literal["opened", "grew", "closed"]
    kind: Literal["shift", "data", "burst", "attack"]  # population, pipeline, few cards, few cards that are flagged
    severity: Literal["warning", "critical"]
    model: Name
    model_version: Version
    features: tuple[str, ...]  # the loudest first
    summary: Text  # for people
    opened_at_ms: TimeMs  # event time
    happened_at_ms: TimeMs  # event time of this change
    evidence: tuple[DriftEvidence, ...]
    examples: tuple[str, ...]  # ids of a few transactions of the bin that grew most


class RetrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Train again on what came in, and why."""

    correlation_id: (
        Id  # runs through request, training, promotion and swap; the same when the same panes are read again
    )
    model: Name
    model_version: Version  # that drifted
    cause: Literal["performance", "score-drift", "input-drift", "by-hand"]
    features: tuple[str, ...]
    incidents: tuple[str, ...] = ()  # open when it was asked for: what the loop began with
    reason: Text
    from_ms: TimeMs  # event times of the transactions to train on
    until_ms: TimeMs
    requested_at_ms: TimeMs
    by: Name | None = None  # the person who asked, as `schemas.security.actor` writes it; None: the monitor


ModelChange = Literal[
    "training-started",
    "training-failed",
    "registered",
    "awaiting-approval",  # better by proof, waits for a person
    "promoted",
    "retained",  # the champion stays: the challenger did not prove itself
    "rejected",  # by a person
    "rolled-back",
]


class ModelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a model version."""

    model: Name
    model_version: Version | None  # None: a training that made none
    change: ModelChange
    reason: Text
    by: Name
    happened_at_ms: TimeMs
    correlation_id: Id | None = None  # of the request that led here
