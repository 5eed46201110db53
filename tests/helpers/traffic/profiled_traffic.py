"""Transactions of a topic with profiles, and what a worker logs of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.records import FeatureRecord, Label
from schemas.time_units import HOUR_MS
from schemas.transaction_ids import transaction_id
from scoring.input.cleaning import clean_payloads
from scoring.profiles.partition_profiles import PartitionProfiles
from scoring.profiles.profile_fold import ProfileFold
from scoring.profiles.replay import Transactions
from scoring.profiles.shared.label_inputs import label_inputs
from stream_app.decisions.feature_records import feature_records

FIRST_MS = 1_577_836_800_000  # 2020-01-01


class TopicRecord(NamedTuple):
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = FIRST_MS
    key: bytes | None = None


def busy_cards(n: int, *, seed: int = 0, partitions: int = 3, days: int = 5) -> list[TopicRecord]:
    """Transactions of a few cards and shops in the order of event times, with some late, repeated and invalid ones."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, days * 86_400, n)) - rng.choice([0, 7_200], n, p=[0.97, 0.03])
    next_offset = [0] * partitions
    records = []
    for i, time in enumerate(times.tolist()):
        card = int(rng.integers(0, 12))
        row = {
            "transaction_id": f"t-{i - 1 if i % 50 == 49 else i}",
            "ID_USER": card,
            "monto": round(float(rng.lognormal(3, 1)), 2),
            "fecha": str(np.datetime64(FIRST_MS // 1000 + time, "s")) + "Z",
            "establecimiento": f"shop {rng.integers(0, 5)}",
            "ciudad": f"city {rng.integers(0, 4)}",
            "fraude": i % 20 == 0,
            "linea_tc": 70_000,
            "interes_tc": 50,
            "dcto": 0,
            "cashback": 1.5,
            "is_prime": False,
        }
        partition = card % partitions
        value = b"{" if i % 70 == 69 else msgspec.json.encode(row)
        at_ms = FIRST_MS + time * 1000
        records.append(TopicRecord("t", partition, next_offset[partition], value, (), at_ms, b"%d" % card))
        next_offset[partition] += 1
    return records


def late_labels(records: Sequence[TopicRecord]) -> list[Label]:
    """Labels of every third transaction, 4 to 30 hours late; some are corrected later, some name no entity."""
    labels = []
    for i, record in enumerate(records[::3]):
        if record.value == b"{":
            continue
        row = msgspec.json.decode(record.value or b"", type=dict[str, Any])
        label = Label(
            transaction_id=row["transaction_id"],
            fraud=i % 4 == 0,
            reported_at_ms=record.timestamp + (4 + i % 27) * HOUR_MS,
            event_time_ms=record.timestamp if i % 9 else None,
            entities={"establecimiento": row["establecimiento"]} if i % 9 else None,
        )
        labels.append(label)
        if i % 5 == 0:
            labels.append(msgspec.structs.replace(label, fraud=True, reported_at_ms=label.reported_at_ms + HOUR_MS))
    return labels


def logged_by_a_worker(
    dataset: Dataset, records: Sequence[TopicRecord], batch: int, labels: Sequence[Label] = ()
) -> list[tuple[int, FeatureRecord]]:
    """The records of the feature log with their partition, in their order."""
    partitions = sorted({r.partition for r in records})
    fold = ProfileFold(dataset, partitions)
    for partition in partitions:
        fold.assign(partition, PartitionProfiles(fold.plan))
    fold.shared.add_labels(label_inputs(fold.plan, labels))
    logged = []
    for begin in range(0, len(records), batch):
        part = records[begin : begin + batch]
        cleaned = clean_payloads(dataset, [r.value for r in part])
        found = fold.features(cleaned, np.array([r.partition for r in part]), np.array([r.offset for r in part]))
        accepted = [part[row] for row in cleaned.rows.tolist()]
        ids = [i or transaction_id(r) for i, r in zip(cleaned.transaction_ids, accepted, strict=True)]
        written = feature_records(fold.plan, accepted, ids, cleaned.event_time_ms, found.values, found.complete)
        logged += [(r.partition, msgspec.json.decode(r.value or b"", type=FeatureRecord)) for r in written]
    return logged


def collected(dataset: Dataset, transactions: Transactions, records: Sequence[TopicRecord], batch: int) -> Transactions:
    """Add the records to the transactions to replay."""
    for begin in range(0, len(records), batch):
        part = records[begin : begin + batch]
        cleaned = clean_payloads(dataset, [r.value for r in part])
        transactions.update(cleaned, [r.partition for r in part], [r.offset for r in part])
    return transactions
