"""The feature log: values of profile features as records, and found again by partition and offset."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from schemas.records import FeatureRecord
from scoring.profiles.feature_log import FeatureLog, feature_columns, logged_values
from scoring.profiles.profile_plan import ProfilePlan
from stream_app.decisions.feature_records import feature_records
from tests.helpers.traffic.profiled_dataset import PROFILES, profiled_dataset
from tests.helpers.traffic.profiled_traffic import TopicRecord

TIMES_MS = np.array([1_600_000_000_000 + i for i in range(4)])
IDS = ["a", "b", "c", "d"]
OFFSETS = np.array([10, 11, 12, 13])


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ProfilePlan:
    return ProfilePlan.of(profiled_dataset(tmp_path_factory.mktemp("dataset")))


@pytest.fixture(scope="module")
def matrix(plan: ProfilePlan) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(4, len(plan.features))).astype(np.float32)
    values[1, 0] = np.nan
    values[2, 1] = np.float32(1) / 3
    return values


def records(plan: ProfilePlan, matrix: np.ndarray, complete: tuple[bool, ...] = (True,) * 4) -> list[FeatureRecord]:
    consumed = [TopicRecord("transactions", 0, offset, None) for offset in OFFSETS.tolist()]
    written = feature_records(plan, consumed, IDS, TIMES_MS, matrix, np.array(complete))
    return [msgspec.json.decode(record.value or b"", type=FeatureRecord) for record in written]


def test_values_survive_a_record_bit_for_bit(plan: ProfilePlan, matrix: np.ndarray) -> None:
    for record, row in zip(records(plan, matrix), matrix, strict=True):
        values = logged_values(record, plan)
        assert values is not None
        assert values.tobytes() == row.tobytes()


def test_values_are_little_endian_floats_in_the_order_of_declaration(plan: ProfilePlan, matrix: np.ndarray) -> None:
    first = records(plan, matrix)[0]
    assert first.values == matrix[0].astype("<f4").tobytes()
    assert (first.transaction_id, first.event_time_ms, first.input_offset) == ("a", TIMES_MS[0], 10)


def test_a_column_of_values_has_the_name_of_its_feature(plan: ProfilePlan, matrix: np.ndarray) -> None:
    columns = feature_columns(plan.names, matrix)
    assert list(columns) == list(plan.names)
    assert columns["id_user_count_1h"].dtype == np.float64
    np.testing.assert_array_equal(columns[plan.names[1]], matrix[:, 1].astype(np.float64))


def test_values_are_found_by_partition_and_offset(plan: ProfilePlan, matrix: np.ndarray) -> None:
    log = FeatureLog(plan)
    for record in records(plan, matrix, complete=(True, True, False, True)):
        log.update(3, record)
    found = log.find(np.array([3, 3, 2, 3]), np.array([12, 10, 10, 99]), ["c", "a", "a", "z"], TIMES_MS[[2, 0, 0, 3]])
    assert found.found.tolist() == [True, True, False, False]
    assert found.complete.tolist() == [False, True, False, False]
    np.testing.assert_array_equal(found.matrix[:2], matrix[[2, 0]])
    assert np.isnan(found.matrix[2:]).all()


def test_nothing_is_found_in_an_empty_log(plan: ProfilePlan) -> None:
    assert not FeatureLog(plan).find(np.zeros(4, int), OFFSETS, IDS, TIMES_MS).found.any()
    assert FeatureLog(plan).find(np.zeros(0, int), np.zeros(0, int), [], np.zeros(0, int)).matrix.shape[0] == 0


def test_the_last_record_of_a_transaction_counts(plan: ProfilePlan, matrix: np.ndarray) -> None:
    log = FeatureLog(plan)
    for record in [*records(plan, matrix), *records(plan, matrix + 1)]:
        log.update(0, record)
    found = log.find(np.zeros(4, int), OFFSETS, IDS, TIMES_MS)
    np.testing.assert_array_equal(found.matrix, matrix + 1)


@pytest.mark.parametrize(("ids", "later_ms"), [(["a", "b", "x", "d"], 0), (IDS, 1)], ids=["other id", "other time"])
def test_a_record_of_a_former_topic_is_not_used(
    plan: ProfilePlan, matrix: np.ndarray, ids: list[str], later_ms: int
) -> None:
    log = FeatureLog(plan)
    for record in records(plan, matrix):
        log.update(0, record)
    found = log.find(np.zeros(4, int), OFFSETS, ids, TIMES_MS + np.array([0, 0, later_ms, 0]))
    assert found.found.tolist() == [True, True, False, True]


def test_records_of_other_profiles_are_counted_and_not_used(
    plan: ProfilePlan, matrix: np.ndarray, tmp_path: Path
) -> None:
    other = ProfilePlan.of(profiled_dataset(tmp_path, PROFILES.replace('"1d"', '"2d"')))
    cut = msgspec.structs.replace(records(plan, matrix)[0], values=b"\0" * 4)
    log = FeatureLog(plan)
    for record in [cut, *records(other, matrix)]:
        log.update(0, record)
    assert (len(log), log.of_other_profiles) == (0, 5)
