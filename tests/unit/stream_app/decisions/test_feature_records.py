"""Records of the feature log, as they are produced with the decisions."""

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.records import FeatureRecord
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.feature_records import feature_records
from tests.helpers.traffic.profiled_dataset import profiled_dataset


class LoggedTransaction(NamedTuple):
    partition: int
    offset: int
    key: bytes | None = b"7"
    topic: str = "transactions"
    value: bytes | None = b"{}"
    headers: tuple[tuple[str, bytes | None], ...] = ()


def test_a_feature_record_has_partition_key_and_offset_of_its_transaction(tmp_path: Path) -> None:
    plan = ProfilePlan.of(profiled_dataset(tmp_path))
    transactions = [LoggedTransaction(2, 40), LoggedTransaction(0, 7, key=None)]
    values = np.arange(2 * len(plan.features), dtype=np.float32).reshape(2, -1)
    made = feature_records(plan, transactions, ["a", "b"], np.array([5, 6]), values, np.array([True, False]))
    assert [(r.partition, r.key, r.headers) for r in made] == [(2, b"7", []), (0, None, [])]
    decoded = [msgspec.json.decode(r.value or b"", type=FeatureRecord) for r in made]
    assert [(d.transaction_id, d.event_time_ms, d.input_offset, d.complete) for d in decoded] == [
        ("a", 5, 40, True),
        ("b", 6, 7, False),
    ]
    assert [d.values for d in decoded] == [row.tobytes() for row in values.astype("<f4")]
    assert {d.profiles for d in decoded} == {plan.digest}
