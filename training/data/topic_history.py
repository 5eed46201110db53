"""Labelled history from Kafka: joins transactions with labels, which arrive later, by transaction id.

Pure: the caller reads the topics. Transactions are cleaned by the code that cleans the stream.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.records import FeatureRecord, Label, Rejection
from schemas.transaction_ids import RecordPlace, transaction_id
from scoring.arrays import Ints, Matrix
from scoring.input.admission import reject_records
from scoring.input.cleaning import CleanedBatch, clean_payloads
from scoring.input.record_times import RecordTimes
from scoring.profiles.feature_log import FeatureLog, feature_columns
from scoring.profiles.profile_plan import ProfilePlan
from training.data.chunk import RejectionReasons, join_batches, known_labels, rows_at
from training.data.history import History, labelled_history, usable_rows
from training.data.profile_values import ProfileSources, profile_values

UNBOUNDED_MS = 2**62  # later than any event


class HistoryRecord(RecordPlace, Protocol):
    """A consumed record, as kafka-python gives it."""

    timestamp: int  # ms
    key: bytes | None
    value: bytes | None


class HistoryBatch(NamedTuple):
    """Cleaned transactions; every list has one element per row."""

    cleaned: CleanedBatch
    ids: list[str]
    places: list[tuple[int, int]]  # partition, offset
    digests: list[str]  # SHA-256 of the payloads


class TopicHistory:
    """Collects the records of two topics, in any interleaving of partitions, and builds a history from them.

    A transaction that is on the topic more than once (sent again, or redriven from dead letters) counts once, in its
    first valid version. Of several labels for a transaction, the last reported one counts; a label from the topic takes
    precedence over one in the payload.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        from_ms: int | None,
        until_ms: int | None,
        max_payload_bytes: int,
        topic_id: str = "",
        max_event_time_ahead_ms: int | None = None,
    ) -> None:
        """from_ms, until_ms: range of event times, [from_ms, until_ms); None for no bound.

        topic_id: id of the transactions topic; part of the ids of transactions that have none of their own.
        max_event_time_ahead_ms: the worker rejects event times that are further ahead of the record's timestamp, so
        they are left out here; None for no limit.
        Raises TrainingError when the data set declares no label.
        """
        if dataset.label is None:
            raise TrainingError(f"the data set {dataset.name!r} declares no label; training needs one")
        self._dataset = dataset
        self._range_ms = from_ms, until_ms
        self._from_ms = -UNBOUNDED_MS if from_ms is None else from_ms
        self._until_ms = UNBOUNDED_MS if until_ms is None else until_ms
        self._max_payload_bytes = max_payload_bytes
        self._topic_id = topic_id
        self._max_ahead_ms = max_event_time_ahead_ms
        self._batches: list[HistoryBatch] = []
        self._rejections: list[Rejection] = []
        self._seen = 0
        self._labels: dict[str, tuple[int, bool]] = {}  # by transaction id: when it was reported, fraud
        self.unsure_labels = 0  # of reviewers who are not sure; not used
        self._profiles = _Profiles(dataset) if dataset.profiles else None

    def update(self, records: Sequence[HistoryRecord]) -> None:
        """Add transactions. Records that a worker rejects are rejected here too.

        A rejected record has no event time; its record timestamp decides whether it lies in the range. A record that
        causes an exception in our code is rejected as "internal-error"; the other records of the batch are kept.
        """
        try:
            self._add(records)
        except Exception as error:
            if len(records) > 1:
                half = len(records) // 2
                self.update(records[:half])
                self.update(records[half:])
                return
            rejection = Rejection(row=0, code="internal-error", field=None, value=repr(error)[:100], expected="none")
            self._reject(records, [rejection])
            self._seen += len(records)

    def _reject(self, records: Sequence[HistoryRecord], rejections: Sequence[Rejection]) -> None:
        self._rejections += [
            msgspec.structs.replace(r, row=self._seen + r.row)
            for r in rejections
            if self._from_ms <= records[r.row].timestamp < self._until_ms
        ]

    def _add(self, records: Sequence[HistoryRecord]) -> None:
        unfit = reject_records(records, self._max_payload_bytes)
        cleaned = clean_payloads(
            self._dataset,
            [None if row in unfit else r.value for row, r in enumerate(records)],
            read_labels=True,
            max_payload_bytes=self._max_payload_bytes,
            record_times=(
                None if self._max_ahead_ms is None else RecordTimes([r.timestamp for r in records], self._max_ahead_ms)
            ),
        )
        times = cleaned.event_time_ms
        kept = np.flatnonzero((times >= self._from_ms) & (times < self._until_ms))
        mine = [records[row] for row in cleaned.rows[kept].tolist()]
        declared = [cleaned.transaction_ids[i] for i in kept.tolist()]
        batch = HistoryBatch(
            cleaned=rows_at(cleaned, kept),
            ids=[own_id or transaction_id(r, self._topic_id) for own_id, r in zip(declared, mine, strict=True)],
            places=[(r.partition, r.offset) for r in mine],
            digests=[hashlib.sha256(r.value or b"").hexdigest() for r in mine],
        )
        if self._profiles is not None:
            # Also rows outside of the range: what the others are compared with.
            places = [r.partition for r in records], [r.offset for r in records]
            self._profiles.transactions.update(cleaned, *places)
        # The state changes only from here on, where nothing can fail: so `update` may retry with halves of a batch.
        self._reject(records, [unfit.get(r.row, r) for r in cleaned.rejections])
        self._seen += len(records)
        if len(kept):
            self._batches.append(batch)

    def update_label(self, label: Label) -> None:
        """Add a label. That of a reviewer who is not sure is only counted: an earlier label remains."""
        if label.fraud is None:
            self.unsure_labels += 1
            return
        if self._profiles is not None:
            self._profiles.labels.append(label)
        known = self._labels.get(label.transaction_id)
        if known is None or known[0] <= label.reported_at_ms:
            self._labels[label.transaction_id] = label.reported_at_ms, label.fraud

    def update_features(self, partition: int, record: FeatureRecord) -> None:
        """Add a record of the feature log; records of a partition come in their order."""
        if self._profiles is not None:
            self._profiles.log.update(partition, record)

    def history(
        self, source: str, label_delay_ms: int, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> History:
        """The history of all records so far, ordered by partition and offset.

        source: name of the topic. label_delay_ms: as for `training.data.history.read_history`. progress: of a replay of
        profiles, rows done and of how many. The history's SHA-256 covers ids, payloads, labels and profile features.
        Raises TrainingError, in one line, when too few rows can be used.
        """
        if not self._batches:
            raise TrainingError(f"{source}: no valid transaction lies in the time range; widen --from, --until")
        whole = _concatenate(self._batches)
        # Batches depend on how polls interleave partitions; the order of offsets makes the result deterministic.
        order = sorted(range(len(whole.places)), key=whole.places.__getitem__)
        first = {whole.ids[i]: i for i in reversed(order)}
        rows = [i for i in order if first[whole.ids[i]] == i]
        cleaned = rows_at(whole.cleaned, np.array(rows, dtype=np.intp))
        labels = [
            own_label if (label := self._labels.get(whole.ids[i])) is None else float(label[1])
            for i, own_label in zip(rows, known_labels(cleaned).tolist(), strict=True)
        ]
        content = [(whole.ids[i], whole.digests[i], label) for i, label in zip(rows, labels, strict=True)]
        cleaned = cleaned._replace(
            n=len(rows) + len(self._rejections), labels=np.array(labels), rejections=self._rejections
        )
        digest = hashlib.sha256(msgspec.json.encode(content))
        sources = None
        if self._profiles is not None:
            places = np.array([whole.places[i] for i in rows], dtype=np.int64)
            ids = [whole.ids[i] for i in rows]
            values, sources = self._profiles.values(places, ids, cleaned.event_time_ms, progress)
            digest.update(values.tobytes())
            profiles = feature_columns(self._profiles.plan.names, values)
            cleaned = cleaned._replace(columns={**cleaned.columns, **profiles})
        reasons = RejectionReasons()
        reasons.update(self._rejections)
        cleaned, time_range = usable_rows(
            source,
            self._dataset,
            cleaned,
            reasons,
            name_row=lambda i: "partition {}, offset {}".format(*whole.places[rows[i]]),
        )
        history = labelled_history(source, digest.hexdigest(), cleaned, time_range, label_delay_ms)
        return history._replace(from_ms=self._range_ms[0], until_ms=self._range_ms[1], profile_sources=sources)


class _Profiles:
    """What profile features are taken from: the feature log, and all transactions and labels for a replay."""

    def __init__(self, dataset: Dataset) -> None:
        from scoring.profiles.replay import Transactions  # loads Numba

        self.plan = ProfilePlan.of(dataset)
        self.log = FeatureLog(self.plan)
        self.transactions = Transactions(self.plan)
        self.labels: list[Label] = []

    def values(
        self, places: Ints, ids: Sequence[str], event_time_ms: Ints, progress: Callable[[int, int], None]
    ) -> tuple[Matrix, ProfileSources]:
        """Values of rows. places: shape (n, 2), partition and offset."""
        from scoring.profiles.shared.label_inputs import label_inputs  # loads Numba

        return profile_values(
            self.log,
            self.transactions,
            label_inputs(self.plan, self.labels),
            partitions=places[:, 0],
            offsets=places[:, 1],
            ids=ids,
            event_time_ms=event_time_ms,
            progress=progress,
        )


def _concatenate(batches: Sequence[HistoryBatch]) -> HistoryBatch:
    return HistoryBatch(
        cleaned=join_batches([b.cleaned for b in batches]),
        ids=[i for b in batches for i in b.ids],
        places=[p for b in batches for p in b.places],
        digests=[d for b in batches for d in b.digests],
    )
