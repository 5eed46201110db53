"""Transactions with their decisions, profile features and labels, for the backtest of rules: logged, or of a file."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import TamizError
from schemas.records import Decision, Label
from schemas.time_units import DAY_MS
from schemas.transaction_ids import TOPIC_ID_HEADER, transaction_id
from scoring.arrays import Floats, Indices, Ints
from scoring.decision import OUTCOMES, outcome_codes
from scoring.features import featurize
from scoring.input.cleaning import CleanedBatch
from scoring.profiles.feature_log import FeatureLog, feature_columns
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerPolicy
from stream_app.kafka.record_validation import RecordIntake
from stream_app.kafka.topic_admin import topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from tamiz.services.history_reader import clean_valid, read_feature_log, read_labels
from training.data.chunk import join_batches, rows_at
from training.data.history import read_history
from training.registry.model_loader import registered_model

log = logging.getLogger("tamiz.rules")
Progress = Callable[[str, int, int], None]  # step, how much of it is done, of how much


class LoggedDecisions(NamedTuple):
    """What the decisions of n transactions state; every array has shape (n,)."""

    decided_at_ms: Ints
    scores: Floats
    outcomes: Indices  # indices into `OUTCOMES`
    model_outcomes: Indices
    weights: Floats  # 1; of an explored transaction 1/share (`Decision.exploration_share`)


class DecidedTransactions(NamedTuple):
    """Transactions by partition and offset, with their decisions."""

    cleaned: CleanedBatch  # with the logged profile features
    decisions: LoggedDecisions
    frauds: Floats  # shape (n,): 1: fraud, 0: legitimate, NaN: no label
    undecided: int  # transactions without a decision: left out
    unlogged: int  # transactions without logged values of the declared profiles: left out


def read_decided_transactions(
    settings: Settings,
    dataset: Dataset,
    *,
    from_ms: int | None = None,
    until_ms: int | None = None,
    progress: Progress = lambda step, done, of: None,
) -> DecidedTransactions:
    """The decided transactions with event times in [`from_ms`, `until_ms`), in ms since 1970; None for no bound.

    A transaction that is on the topic more than once counts once. A label counts when its transaction is
    `label_delay_days` older than the last one.
    Raises TamizError if there is none, BrokerError if no broker responds.
    """
    topic = settings.transactions_topic
    topic_id = topic_ids(settings.bootstrap, [topic]).get(topic, "")
    policy = HandlerPolicy.from_settings(settings, dataset, counting=False)._replace(topic_id=topic_id)

    def step(name: str) -> Callable[[int, int], None]:
        return lambda done, of: progress(name, done, of)

    found = _Transactions(policy, from_ms, until_ms)
    for records in read_to_end(
        settings.bootstrap, topic, step(f"reading {topic}"), keep_bytes=settings.max_payload_bytes
    ):
        found.update(records)
    if not len(found):
        raise TamizError(f"{topic} holds no valid transaction in the time range; widen --from, --until")
    intake = RecordIntake(settings, log, log_text="skipped, not a valid record")
    decided = _Decisions(topic_id)
    for records in read_to_end(
        settings.bootstrap, settings.decisions_topic, step(f"reading {settings.decisions_topic}")
    ):
        decided.update(records, intake)
    labels: dict[str, Label] = {}
    for label in read_labels(settings, intake, step(f"reading {settings.labels_topic}")):
        known = labels.get(label.transaction_id)
        if known is None or known.reported_at_ms <= label.reported_at_ms:
            labels[label.transaction_id] = label
    cleaned, partitions, offsets, ids = found.sorted()
    rows, decisions = decided.find(partitions, offsets)
    kept, logged = np.arange(len(rows)), len(rows)
    if dataset.profiles:
        plan = ProfilePlan.of(dataset)
        feature_log = FeatureLog(plan)
        for partition, record in read_feature_log(settings, intake, step(f"reading {settings.feature_log_topic}")):
            feature_log.update(partition, record)
        own_ids = [ids[i] for i in rows.tolist()]
        values = feature_log.find(partitions[rows], offsets[rows], own_ids, cleaned.event_time_ms[rows])
        kept = np.flatnonzero(values.found)
        logged = len(kept)
        cleaned = rows_at(cleaned, rows[kept])
        cleaned = cleaned._replace(columns={**cleaned.columns, **feature_columns(plan.names, values.matrix[kept])})
    else:
        cleaned = rows_at(cleaned, rows)
    intake.log_summary(at_once=True)
    if not logged:
        raise TamizError(
            f"none of {len(ids):,} transactions in the time range can be tested: {len(ids) - len(rows):,} are not on "
            f"{settings.decisions_topic}, {len(rows):,} have no values on {settings.feature_log_topic}; run "
            "`tamiz worker`, or widen --from, --until"
        )
    frauds = _frauds([ids[i] for i in rows[kept].tolist()], labels)
    delay_ms = settings.label_delay_days * DAY_MS
    frauds[cleaned.event_time_ms > cleaned.event_time_ms.max() - delay_ms] = np.nan
    return DecidedTransactions(
        cleaned,
        LoggedDecisions._make(column[kept] for column in decisions),
        frauds,
        undecided=len(ids) - len(rows),
        unlogged=len(rows) - logged,
    )


def decide_file(
    settings: Settings,
    dataset: Dataset,
    path: Path,
    *,
    labels: Path | None = None,
    from_ms: int | None = None,
    until_ms: int | None = None,
    progress: Progress = lambda step, done, of: None,
) -> DecidedTransactions:
    """The labelled transactions of a file, as the champion decides them now. All their labels count as honest.

    Profiles begin empty at the first row. labels, from_ms, until_ms: as for `training.data.history.read_history`.
    Raises TrainingError for a file that is not the declared data set, ModelUnavailableError without a champion.
    """
    history = read_history(
        path,
        dataset,
        settings.label_delay_days * DAY_MS,
        labels=labels,
        from_ms=from_ms,
        until_ms=until_ms,
        progress=lambda step, share: progress(step, int(100 * share), 100),
    )
    model, n = registered_model(settings, None), len(history.fraud)
    scores = model.score(featurize(model.encoding, history.columns))
    outcomes = outcome_codes(scores, model.manifest.points)
    cleaned = CleanedBatch(
        n=n,
        rows=np.arange(n),
        columns=history.columns,
        event_time_ms=history.event_time_ms,
        keys=history.keys.tolist(),
        transaction_ids=[None] * n,
        labels=None,
        rejections=[],
    )
    approved = np.full(n, OUTCOMES.index("approve"))
    decisions = LoggedDecisions(history.event_time_ms, scores, approved, outcomes, np.ones(n))
    return DecidedTransactions(cleaned, decisions, history.fraud, undecided=0, unlogged=0)


class _Transactions:
    """Collects valid transactions of a range of event times, in any interleaving of partitions."""

    def __init__(self, policy: HandlerPolicy, from_ms: int | None, until_ms: int | None) -> None:
        self._policy = policy
        self._from_ms = -(2**62) if from_ms is None else from_ms
        self._until_ms = 2**62 if until_ms is None else until_ms
        self._batches: list[CleanedBatch] = []
        self._partitions: list[int] = []
        self._offsets: list[int] = []
        self._ids: list[str] = []

    def __len__(self) -> int:
        return len(self._ids)

    def update(self, records: Sequence[ConsumedRecord]) -> None:
        """Add records; those that are no transactions are left out."""
        for some, cleaned in clean_valid(records, self._policy):
            times = cleaned.event_time_ms
            kept = rows_at(cleaned, np.flatnonzero((times >= self._from_ms) & (times < self._until_ms)))
            if len(kept.rows):
                self._batches.append(kept._replace(rejections=[]))
            for row, declared in zip(kept.rows.tolist(), kept.transaction_ids, strict=True):
                self._partitions.append(some[row].partition)
                self._offsets.append(some[row].offset)
                self._ids.append(declared or transaction_id(some[row], self._policy.topic_id))

    def sorted(self) -> tuple[CleanedBatch, Ints, Ints, list[str]]:
        """Transactions, partitions, offsets and ids, by partition and offset; each id once."""
        partitions, offsets = np.array(self._partitions, np.int64), np.array(self._offsets, np.int64)
        first: dict[str, int] = {}
        for i in np.lexsort((offsets, partitions)).tolist():
            first.setdefault(self._ids[i], i)
        rows = np.fromiter(first.values(), np.intp, len(first))
        return rows_at(join_batches(self._batches), rows), partitions[rows], offsets[rows], list(first)


class _Decisions:
    """Collects decisions by the place of their transactions; of several for one transaction, the last one counts."""

    def __init__(self, topic_id: str) -> None:
        self._topic_id = topic_id.encode()
        self._rows: list[tuple[int, int, int, float, int, int, float]] = []

    def update(self, records: Sequence[ConsumedRecord], intake: RecordIntake) -> None:
        """Add records; those of a former topic of transactions are left out."""
        for record in records:
            headers = dict(record.headers)
            offset = headers.get(OFFSET_HEADER) or b""
            if not (offset.isdigit() and len(offset) < 20) or headers.get(TOPIC_ID_HEADER, b"") != self._topic_id:
                continue
            if (decision := intake.read(record, Decision)) is not None:
                self._rows.append(
                    (
                        record.partition,
                        int(offset),
                        record.timestamp,
                        decision.score,
                        OUTCOMES.index(decision.outcome),
                        OUTCOMES.index(decision.model_outcome),
                        1 / (decision.exploration_share or 1),
                    )
                )

    def find(self, partitions: Ints, offsets: Ints) -> tuple[Indices, LoggedDecisions]:
        """Which of the transactions are decided, and their decisions. partitions, offsets: shape (n,)."""
        columns = list(zip(*self._rows, strict=True)) or [()] * 7
        places = np.array(columns[0], np.int64), np.array(columns[1], np.int64)
        last = {place: i for i, place in enumerate(zip(*(p.tolist() for p in places), strict=True))}
        found = [last.get(place, -1) for place in zip(partitions.tolist(), offsets.tolist(), strict=True)]
        at = np.array(found, np.intp)
        rows = np.flatnonzero(at >= 0)
        types = (np.int64, np.float64, np.intp, np.intp, np.float64)
        values = (np.array(column, type_)[at[rows]] for column, type_ in zip(columns[2:], types, strict=True))
        return rows, LoggedDecisions._make(values)


def _frauds(ids: Sequence[str], labels: dict[str, Label]) -> Floats:
    known = (labels.get(own_id) for own_id in ids)
    return np.array([np.nan if label is None or label.fraud is None else float(label.fraud) for label in known])
