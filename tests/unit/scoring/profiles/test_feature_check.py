"""The check of the feature log: which values agree with replayed ones, feature by feature."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from schemas.records import FeatureRecord
from scoring.profiles.feature_check import CheckedRows, FeatureCheck, ValueDifference, check_features
from scoring.profiles.feature_log import FeatureLog
from scoring.profiles.profile_plan import ProfilePlan
from tests.helpers.traffic.profiled_dataset import profiled_dataset

N = 6
TIMES_MS = np.arange(N) + 1_600_000_000_000


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> ProfilePlan:
    return ProfilePlan.of(profiled_dataset(tmp_path_factory.mktemp("dataset")))


def checked(
    plan: ProfilePlan, change: Callable[[int, FeatureRecord], FeatureRecord | None] = lambda i, record: record
) -> FeatureCheck:
    """Check six transactions of one partition that are logged as replayed, but for a change."""
    values = np.arange(N * len(plan.features), dtype=np.float32).reshape(N, -1)
    values[2, 1] = np.nan
    log = FeatureLog(plan)
    for i in range(N):
        record = change(
            i,
            FeatureRecord(
                transaction_id=f"t-{i}",
                event_time_ms=int(TIMES_MS[i]),
                input_offset=i,
                profiles=plan.digest,
                complete=True,
                values=values[i].astype("<f4").tobytes(),
            ),
        )
        if record is not None:
            log.update(0, record)
    ids = [f"t-{i}" for i in range(N)]
    return check_features(
        plan, log, CheckedRows(np.zeros(N, np.int64), np.arange(N), ids, TIMES_MS, values, np.ones(N, np.bool_))
    )


def test_a_log_with_the_replayed_values_is_all_equal(plan: ProfilePlan) -> None:
    found = checked(plan)
    assert found.all_equal
    assert (found.transactions, found.compared, found.missing, found.undecided) == (N, N, 0, 0)
    assert [f.feature for f in found.features] == list(plan.names)
    assert {(f.equal, f.different, f.missing, f.example) for f in found.features} == {(N, 0, 0, None)}


def test_a_difference_of_one_bit_is_found_with_its_transaction(plan: ProfilePlan) -> None:
    def changed(i: int, record: FeatureRecord) -> FeatureRecord:
        values = np.frombuffer(record.values, "<f4").copy()
        if i == 3:
            values[0] = np.nextafter(values[0], np.float32(np.inf))
        if i == 2:
            values[1] = 5
        return msgspec.structs.replace(record, values=values.tobytes())

    found = checked(plan, changed)
    assert not found.all_equal
    first, second, *others = found.features
    replayed = 3.0 * len(plan.features)
    logged = float(np.nextafter(np.float32(replayed), np.float32(np.inf)))
    assert (first.equal, first.different) == (N - 1, 1)
    assert first.example == ValueDifference(
        transaction_id="t-3", partition=0, offset=3, logged=logged, replayed=replayed
    )
    assert second.example == ValueDifference(transaction_id="t-2", partition=0, offset=2, logged=5.0, replayed=None)
    assert all(f.different == 0 for f in others)


def test_what_is_not_logged_incomplete_or_undecided_is_counted_and_not_compared(plan: ProfilePlan) -> None:
    def changed(i: int, record: FeatureRecord) -> FeatureRecord | None:
        wrong = msgspec.structs.replace(record, values=b"\0" * len(record.values))
        return {
            0: None,
            1: msgspec.structs.replace(wrong, complete=False),
            2: msgspec.structs.replace(wrong, profiles="other"),
            5: None,
        }.get(i, record)

    found = checked(plan, changed)
    assert found.all_equal
    assert (found.transactions, found.compared, found.incomplete, found.missing) == (5, 2, 1, 2)
    assert (found.undecided, found.records_of_other_profiles) == (1, 1)
    assert {(f.equal, f.missing) for f in found.features} == {(2, 2)}


def test_nothing_is_compared_without_a_log(plan: ProfilePlan) -> None:
    found = checked(plan, lambda i, record: None)
    assert (found.all_equal, found.compared, found.undecided) == (True, 0, N)
