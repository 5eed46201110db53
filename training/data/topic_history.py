"""Labelled history from topics: transactions as they came, and labels as they came later, joined by transaction id.

Pure: whoever reads Kafka brings the records. They are cleaned by the very code that cleans the stream.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from schemas.records import Label, Rejection
from schemas.transaction_ids import RecordPlace, transaction_id
from scoring.arrays import Floats, Indices
from scoring.input.admission import reject_records
from scoring.input.cleaning import CleanedBatch, clean_payloads
from scoring.input.record_times import RecordTimes
from training.data.history import History, labelled

EVER = 2**62  # ms; later than any event


class HistoryRecord(RecordPlace, Protocol):
    """A consumed record, as kafka-python gives it."""

    timestamp: int  # ms
    key: bytes | None
    value: bytes | None


class HistoryBatch(NamedTuple):
    """Transactions that can be scored, cleaned; every list has one element a row."""

    cleaned: CleanedBatch
    ids: list[str]
    places: list[tuple[int, int]]  # partition, offset
    digests: list[str]  # SHA-256 of the payloads


class StreamedHistory:
    """A fold over two topics: records in, in any interleaving of partitions; a history out.

    A transaction that stands on the topic more than once (sent again, or redriven after it could not be scored) is
    learned from once, as it first could be scored. Of several labels of one transaction the last reported one holds,
    and one from the topic before one inside the payload.
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
        """from_ms, until_ms: event times, the first included, the last not; None does not bound.

        topic_id: incarnation of the transactions topic: it is in the ids of transactions that bring none.
        max_event_time_ahead_ms: of the record's own time; what lies further ahead was not decided and is not learned;
        None does not bound.

        Raises TrainingError when the data set declares no label.
        """
        if dataset.label is None:
            raise TrainingError(f"the data set {dataset.name!r} declares no label: nothing can be learned from it")
        self._dataset = dataset
        self._asked = from_ms, until_ms
        self._from_ms = -EVER if from_ms is None else from_ms
        self._until_ms = EVER if until_ms is None else until_ms
        self._max_payload_bytes = max_payload_bytes
        self._topic_id = topic_id
        self._max_ahead_ms = max_event_time_ahead_ms
        self._batches: list[HistoryBatch] = []
        self._rejections: list[Rejection] = []
        self._seen = 0
        self._labels: dict[str, Label] = {}

    def observe(self, records: Sequence[HistoryRecord]) -> None:
        """Take in transactions. One that cannot be scored tells no event time: its record's own stands for it.

        What a worker refuses is refused here, too. One that our own code cannot bear is rejected, and ends nothing.
        """
        try:
            self._observe(records)
        except Exception as error:
            if len(records) > 1:
                half = len(records) // 2
                self.observe(records[:half])
                self.observe(records[half:])
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

    def _observe(self, records: Sequence[HistoryRecord]) -> None:
        unfit = reject_records(records, self._max_payload_bytes)
        cleaned = clean_payloads(
            self._dataset,
            [None if row in unfit else r.value for row, r in enumerate(records)],
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
            cleaned=_rows(cleaned, kept),
            ids=[told or transaction_id(r, self._topic_id) for told, r in zip(declared, mine, strict=True)],
            places=[(r.partition, r.offset) for r in mine],
            digests=[hashlib.sha256(r.value or b"").hexdigest() for r in mine],
        )
        # Nothing can fail from here on: a batch is taken in whole, or in parts.
        self._reject(records, [unfit.get(r.row, r) for r in cleaned.rejections])
        self._seen += len(records)
        if len(kept):
            self._batches.append(batch)

    def observe_label(self, label: Label) -> None:
        """Take in a label."""
        known = self._labels.get(label.transaction_id)
        if known is None or known.reported_at_ms <= label.reported_at_ms:
            self._labels[label.transaction_id] = label

    def history(self, source: str, label_delay_ms: int) -> History:
        """What was taken in so far, by partition and offset; its SHA-256 is that of ids, payloads and labels.

        Raises TrainingError, in one line, when it is too little to learn from.
        """
        if not self._batches:
            raise TrainingError(f"{source}: no transaction that can be scored lies in the time that was asked for")
        whole = _joined(self._batches)
        # A batch is what a poll brought, from whichever partitions: in order of place, chance has no part in it.
        order = sorted(range(len(whole.places)), key=whole.places.__getitem__)
        first = {whole.ids[i]: i for i in reversed(order)}
        rows = [i for i in order if first[whole.ids[i]] == i]
        cleaned = _rows(whole.cleaned, np.array(rows, dtype=np.intp))
        labels = [
            told if (label := self._labels.get(whole.ids[i])) is None else float(label.fraud)
            for i, told in zip(rows, _labels(cleaned).tolist(), strict=True)
        ]
        content = [(whole.ids[i], whole.digests[i], label) for i, label in zip(rows, labels, strict=True)]
        found = labelled(
            source,
            hashlib.sha256(msgspec.json.encode(content)).hexdigest(),
            self._dataset,
            cleaned._replace(n=len(rows) + len(self._rejections), labels=np.array(labels), rejections=self._rejections),
            label_delay_ms,
        )
        return found._replace(from_ms=self._asked[0], until_ms=self._asked[1])


def _rows(cleaned: CleanedBatch, rows: Indices) -> CleanedBatch:
    return cleaned._replace(
        rows=cleaned.rows[rows],
        columns={name: values[rows] for name, values in cleaned.columns.items()},
        event_time_ms=cleaned.event_time_ms[rows],
        labels=_labels(cleaned)[rows],
    )


def _labels(cleaned: CleanedBatch) -> Floats:
    return np.full(len(cleaned.rows), np.nan) if cleaned.labels is None else cleaned.labels


def _joined(batches: Sequence[HistoryBatch]) -> HistoryBatch:
    def every(arrays: Any) -> Any:
        return np.concatenate(list(arrays))

    first = batches[0].cleaned
    cleaned = first._replace(
        rows=every(b.cleaned.rows for b in batches),
        columns={name: every(b.cleaned.columns[name] for b in batches) for name in first.columns},
        event_time_ms=every(b.cleaned.event_time_ms for b in batches),
        labels=every(_labels(b.cleaned) for b in batches),
    )
    return HistoryBatch(
        cleaned=cleaned,
        ids=[i for b in batches for i in b.ids],
        places=[p for b in batches for p in b.places],
        digests=[d for b in batches for d in b.digests],
    )
