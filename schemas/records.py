"""Records on Kafka topics, encoded as JSON. The order of fields is their order in the JSON.

The types state the bounds: decoding rejects a value outside them, in every reader. `stream_app.kafka.plausibility`
checks conditions between fields, and between fields and the record's timestamp.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_OFFSET = 2**63 - 1  # Kafka's offsets are int64
MAX_INT = 2**31 - 1
# The years 1000 to 2200. Transactions date from 1970 on (`scoring.input.time_parsing`); a requested period may begin
# earlier.
MIN_TIME_MS, MAX_TIME_MS = -30_610_224_000_000, 7_258_118_400_000

Offset = Annotated[int, Meta(ge=0, le=MAX_OFFSET)]
Partition = Annotated[int, Meta(ge=0, le=MAX_INT)]
Version = Annotated[int, Meta(ge=0, le=MAX_INT)]  # of a registered model
TimeMs = Annotated[int, Meta(ge=MIN_TIME_MS, le=MAX_TIME_MS)]  # since 1970, UTC
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]  # a sum of a few counts still fits into 64 bits
Probability = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(max_length=500)]  # of a model, a feature, a layout, a window
Id = Annotated[str, Meta(max_length=1_000)]
Text = Annotated[str, Meta(max_length=100_000)]  # for people

Outcome = Literal["approve", "review", "challenge", "decline"]  # in order of severity
Decider = Literal["model", "rule", "list", "exploration"]  # who decided
# Of a rule or a list, strongest first: the strongest effect of all that match wins. `block` and `decline` both give the
# outcome `decline`; only `block` wins over `allow`.
Effect = Literal["block", "allow", "decline", "challenge", "review"]
Severity = Literal["info", "warning", "critical"]  # of a notification


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """The contribution of one input to the score of a transaction that the model does not approve."""

    feature: Name  # name of the input
    value: Name | float | None  # cleaned value, before imputation; null: missing
    contribution: float  # to the margin, in log-odds; a positive value raises the fraud score
    text: Annotated[str, Meta(max_length=2_000)]  # the reason in one sentence


MAX_MATCHES = 20  # in a decision
MAX_REASON_LENGTH = 300  # characters of the reason that a person gives for a rule or a list entry


class RuleMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A rule or a list entry that matched a transaction."""

    kind: Literal["rule", "list"]
    name: Name  # id of the rule, or name of the list
    version: Version | None  # of the rule; null: a list entry
    effect: Effect
    mode: Literal["live", "shadow"]  # shadow: without effect on the outcome
    reason: Annotated[str, Meta(max_length=MAX_REASON_LENGTH)]  # that a person gave for the rule or the entry


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome for one transaction.

    It is a function of the transaction, the logged values of its profile features, the model version, and the rules and
    lists in force at its offset: deciding the transaction again gives an equal record. The time of the decision is the
    timestamp of the Kafka record.
    """

    decision_id: Id  # UUIDv5 of the transaction id; the same after a redelivery, with any model version
    transaction_id: Id  # from the declared field, else from a header, else topic-partition-offset@topic id
    score: Probability  # probability of fraud, in [0, 1]
    outcome: Outcome  # act on this one
    model_outcome: Outcome  # of the score alone, without rules and lists
    decided_by: Decider
    # Only of `decided_by` exploration, which sends a random share of the declines to review: that share. In statistics,
    # the transaction counts 1 / share times, for itself and for those like it that were declined.
    exploration_share: Annotated[float, Meta(gt=0, le=1)] | None
    ruleset: Annotated[int, Meta(ge=1)] | None  # number of the ruleset in force; null: none
    # Rules and list entries that match: the one that decided first, then live ones by effect, then those in shadow.
    matches: Annotated[tuple[RuleMatch, ...], Meta(max_length=MAX_MATCHES)] = ()
    threshold: Probability  # the lowest score that gives `model_outcome`
    # Of the score, strongest first; empty if the model approves.
    reasons: Annotated[tuple[Reason, ...], Meta(max_length=10)] = ()
    model: Name  # name of the registered model
    model_version: Version
    event_time_ms: TimeMs  # time of the transaction, set by the producer; windows use it


class FeatureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Values of the profile features at one decision: what the model knew of the past of card, merchant or device.

    Written with the decision, to the same partition number and with the same key. Training uses exactly these values.
    """

    transaction_id: Id  # `Decision.transaction_id`
    event_time_ms: TimeMs  # time of the transaction
    input_offset: Offset  # offset of the transaction; its partition is that of this record
    profiles: Name  # digest of the declared profiles: fixes number, order and meaning of the values
    complete: bool  # false: another partition lagged in event time by more than `lag`, so tiles of it are missing
    # One float32 for each profile feature in the order of declaration, little-endian; NaN: missing.
    values: Annotated[bytes, Meta(max_length=65_536)]


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """Why a payload cannot be scored. A value, not an exception."""

    row: int  # position of the payload in its batch
    code: str  # stable, kebab-case; a label of metrics, so there are few codes
    field: str | None  # None: the payload as a whole
    value: str  # the value found, cut to 100 characters
    expected: str  # which values are accepted


class Redrive(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter was sent back to the transactions topic."""

    transaction_id: Id
    dead_letter: Id  # position of the dead letter, topic-partition-offset@topic id
    consumed_from: Id  # position of the rejected transaction, in the same form
    redriven_at_ms: TimeMs


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a transaction, fraud or not: reported days to months later, or the verdict of a person's review."""

    transaction_id: Id  # `Decision.transaction_id`
    fraud: bool | None  # true: the transaction was fraud; null: a reviewer is not sure, so nothing is known
    reported_at_ms: TimeMs  # when the outcome was reported
    by: Name | None = None  # reviewer, in the form of `schemas.security.actor`; null: no verdict of a review
    # Profiles of labels need both; without, a label counts for training and performance only.
    event_time_ms: TimeMs | None = None  # time of the transaction
    # By field, its text in the transaction, such as the merchant.
    entities: Annotated[dict[Name, Id], Meta(max_length=100)] | None = None


class PaneCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one minute of one input partition. A later record of the same minute and partition replaces it.

    `codes` and `counts` are little-endian uint32 arrays of equal length: the codes that occur, ascending, and the
    number of times each occurs.
    """

    start_ms: TimeMs  # start of the minute, event time
    rows: Count  # number of transactions
    first_offset: Offset
    last_offset: Offset
    codes: bytes  # base64 in JSON
    counts: bytes


class WatermarkState(msgspec.Struct, frozen=True, kw_only=True):
    """State that the watermark of a partition is computed from; see `monitoring.counting.watermark`."""

    confirmed_ms: TimeMs  # 5th latest of the last 8 event times; never decreases
    recent_ms: tuple[TimeMs, ...]  # event times of the latest rows
    since_ms: TimeMs  # minutes from here to the watermark are closed
    closed: tuple[tuple[TimeMs, TimeMs], ...]  # other ranges of closed minutes: [start of the first, end of the last)
    gap_ms: tuple[TimeMs, ...]  # event times of late rows in minutes that were never closed
    resets: Count  # number of times the watermark was set back


class VersionMark(msgspec.Struct, frozen=True, kw_only=True):
    """Watermark up to which another model version counted a partition."""

    model_version: Version
    watermark_ms: TimeMs


class PaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Counting progress of one input partition, with its newly closed panes or with its open ones."""

    model: Name
    model_version: Version
    layout: Name  # digest of the feature bins that were counted
    partition: Partition  # of the transactions topic
    last_offset: Annotated[int, Meta(ge=-1, le=MAX_OFFSET)]  # last transaction counted; -1: none
    watermark_ms: TimeMs
    late: Count  # transactions that arrived after their minute had closed, in total
    open: bool  # true: the panes may still grow, and the record is the cursor from which another worker continues
    panes: tuple[PaneCounts, ...]
    # The fields below are set in a cursor only; cursors of earlier versions lack them.
    held: tuple[PaneCounts, ...] = ()  # minutes far ahead of the watermark, not evaluated yet
    dropped: Count = 0  # rows of held minutes that were discarded for lack of space, in total
    state: WatermarkState | None = None
    others: tuple[VersionMark, ...] | None = None  # other versions that counted the partition earlier, latest first
    topic_id: Name = ""  # Kafka's id of the input topic that the offsets belong to; empty: unknown


class DriftStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Drift statistics of one feature in one window; null where a statistic is undefined, as KS is for a category."""

    feature: Name
    rows: Count  # number of transactions in the window
    psi: float | None  # population stability index against the reference, in nats; of an input also called CSI
    psi_corrected: float | None  # PSI minus its expected value without drift
    psi_decile: float | None  # PSI over the reference's deciles, for comparison with other tools
    psi_lower_bound: float | None  # lower confidence bound of the PSI
    kl: float | None  # Kullback-Leibler divergence of reference from current, in nats
    js: float | None  # Jensen-Shannon divergence, in nats
    ks: float | None  # two-sample Kolmogorov-Smirnov statistic
    ks_p_value: float | None
    enough_rows: bool  # whether the window has enough rows for a meaningful PSI
    exceeds: bool  # whether the lower bound exceeds the tolerance


class DriftWindow(msgspec.Struct, frozen=True, kw_only=True):
    """One sliding window at one evaluation."""

    window: Name  # name of the window, such as `1h`
    rows: Count  # number of transactions
    features: tuple[DriftStatistics, ...]
    incomplete: int = 0  # minutes that lack a partition; above 5 % of the window, it is not evaluated


class LabelledDay(msgspec.Struct, frozen=True, kw_only=True):
    """Transactions of one UTC day whose labels are final."""

    day_ms: TimeMs  # start of the day
    rows: Count  # number of transactions
    frauds: Count
    expected_frauds: float  # sum of the scores


class PerformanceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Performance of a model version on final labels. Metrics cover its latest transactions; null: undefined."""

    matured: int  # decisions older than the label delay, in total
    labelled: int  # matured decisions with a reported label, in total
    rows: int  # transactions in the window of the metrics
    frauds: int  # in the window
    expected_frauds: float  # sum of the scores in the window
    roc_auc: float | None
    claimed_roc_auc: float | None  # expected ROC AUC if every score were the true probability of fraud
    average_precision: float | None
    recall: float | None  # share of the frauds that the model did not approve
    label_delay_ms: int | None  # median time from transaction to label
    days: tuple[LabelledDay, ...]  # by date of the transaction
    unknown_labels: int  # labels without a known decision, in total
    revised_labels: int  # labels that contradict an earlier label of the transaction, in total
    unsure_labels: int = 0  # labels of reviewers who are not sure, in total; they count nowhere else
    alarm: str | None  # reason to retrain; null: performance is as expected


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """One drift evaluation: every window, every feature."""

    model: Name
    model_version: Version
    until_ms: TimeMs  # event time up to which all transactions are counted
    late: int  # transactions that arrived after their minute had closed, in total
    lost: int  # transactions whose counts arrived too late or are dated in the future, in total
    windows: tuple[DriftWindow, ...]
    incidents: tuple[str, ...]  # ids of the open incidents
    performance: PerformanceReport | None = None  # performance on final labels
    suspected_attack: bool  # whether few cards raised both the alert rate and the upper tail of the scores
    incomplete: int = 0  # minutes that closed without a partition that contributes to them, in total; not evaluated
    skew_ms: int = 0  # event time between the watermarks of the first and the last active partition
    skewed: tuple[int, ...] = ()  # partitions that differ from the others by more than `idle_partition_timeout_minutes`
    burst_share: float = 0.0  # share of the last hour's transactions that few cards sent beyond their usual share


class DriftEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """Drift of one feature in an alert, with both distributions, so that a subscriber can draw them."""

    feature: Name
    window: Name
    psi: float  # in nats
    psi_lower_bound: float  # lower confidence bound of the PSI
    tolerance: float  # PSI that the lower bound must exceed for an alert
    importance: float  # share of the model's gain, in [0, 1]
    share: float  # contribution to the change of all features, in [0, 1]
    labels: tuple[str, ...]  # of the bins
    reference: tuple[float, ...]  # share of each bin, expected for the hours of the window
    current: tuple[float, ...]  # share of each bin in the window


MAX_ALERT_EXAMPLES = 5  # transaction ids
MAX_ALERT_CARDS = 50


class DriftAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An incident opened, grew or closed."""

    incident_id: Id
    change: Literal["opened", "grew", "closed"]
    # shift: the population changed; data: the pipeline changed; burst: few cards; attack: few cards with high scores;
    # rule: the precision of a live rule fell, or a rule matches nothing for 30 days
    kind: Literal["shift", "data", "burst", "attack", "rule"]
    severity: Literal["warning", "critical"]
    model: Name
    model_version: Version
    features: tuple[str, ...]  # strongest drift first
    summary: Text  # for people, in plain text
    opened_at_ms: TimeMs  # event time at which the incident opened
    happened_at_ms: TimeMs  # event time of this change
    evidence: tuple[DriftEvidence, ...]
    # Ids of transactions of the bin that grew most, newest first; of few cards: theirs. Empty if closed or not found.
    examples: tuple[str, ...]
    # Keys of the cards of an attack or burst, those that were found first come first: the text of the Kafka key of
    # their transactions. Empty for other kinds.
    cards: Annotated[tuple[Id, ...], Meta(max_length=MAX_ALERT_CARDS)] = ()


class RetrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to train a new model on recent transactions, with its reason."""

    # Shared by request, training, promotion and swap; the same when the same panes are read again.
    correlation_id: Id
    model: Name
    model_version: Version  # version that drifted
    cause: Literal["performance", "score-drift", "input-drift", "manual"]
    features: tuple[str, ...]  # features that drifted
    incidents: tuple[str, ...] = ()  # ids of the incidents that were open
    reason: Text  # for people
    from_ms: TimeMs  # period of the transactions to train on, by event time
    until_ms: TimeMs
    requested_at_ms: TimeMs
    by: Name | None = None  # the person who requested it, in the form of `schemas.security.actor`; null: the monitor


ModelChange = Literal[
    "training-started",
    "training-failed",
    "registered",
    "awaiting-approval",  # the challenger beat the champion and waits for a person
    "promoted",
    "retained",  # the champion stays: the challenger did not beat it
    "rejected",  # by a person
    "rolled-back",
]


class ModelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a model version's status, or the start or failure of a training."""

    model: Name
    model_version: Version | None  # null: the training produced no version
    change: ModelChange
    reason: Text  # for people
    by: Name  # the person or program that made the change
    happened_at_ms: TimeMs
    correlation_id: Id | None = None  # of the retrain request that led to the change
