"""Training from a topic uses the values that the worker logged, and replays the others."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from schemas.dataset.declaration import Dataset
from schemas.records import FeatureRecord
from tests.helpers.traffic.profiled_dataset import profiled_dataset
from tests.helpers.traffic.profiled_traffic import TopicRecord, busy_cards, late_labels, logged_by_a_worker
from training.data.history import History
from training.data.topic_history import TopicHistory

RECORDS = busy_cards(500)
FEATURE = "id_user_count_1d"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return profiled_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def logged(dataset: Dataset) -> list[tuple[int, FeatureRecord]]:
    return logged_by_a_worker(dataset, RECORDS, len(RECORDS), late_labels(RECORDS))


def history(
    dataset: Dataset,
    logged: Sequence[tuple[int, FeatureRecord]],
    records: Sequence[TopicRecord] = RECORDS,
    from_ms: int | None = None,
) -> History:
    found = TopicHistory(dataset, from_ms=from_ms, until_ms=None, max_payload_bytes=65_536)
    for begin in range(0, len(records), 90):
        found.update(records[begin : begin + 90])
    for label in late_labels(records):
        found.update_label(label)
    for partition, record in logged:
        found.update_features(partition, record)
    return found.history("t", 0)


def test_a_training_uses_exactly_the_logged_values(dataset: Dataset, logged: list[tuple[int, FeatureRecord]]) -> None:
    def changed(record: FeatureRecord) -> FeatureRecord:
        values = np.frombuffer(record.values, "<f4") + 1_000
        return msgspec.structs.replace(record, values=values.astype("<f4").tobytes())

    as_logged, as_changed = history(dataset, logged), history(dataset, [(p, changed(r)) for p, r in logged])
    assert as_changed.profile_sources is not None
    assert (as_changed.profile_sources.replayed, as_changed.profile_sources.logged) == (0, as_changed.rows - 7)
    np.testing.assert_array_equal(as_changed.columns[FEATURE], as_logged.columns[FEATURE] + 1_000)
    assert as_changed.sha256 != as_logged.sha256


def test_rows_that_were_not_logged_are_replayed_with_the_same_values(
    dataset: Dataset, logged: list[tuple[int, FeatureRecord]]
) -> None:
    whole, half, none = history(dataset, logged), history(dataset, logged[::2]), history(dataset, [])
    for found in (half, none):
        for name in dataset.profile_features:
            np.testing.assert_array_equal(found.columns[name.name], whole.columns[name.name], err_msg=name.name)
    assert whole.profile_sources is not None
    assert half.profile_sources is not None
    assert none.profile_sources is not None
    assert half.profile_sources.replayed + half.profile_sources.logged == whole.profile_sources.logged
    assert half.profile_sources.replayed > 200
    assert (none.profile_sources.logged, none.profile_sources.incomplete) == (0, whole.profile_sources.incomplete)
    assert none.sha256 == whole.sha256


def test_transactions_before_the_range_count_in_the_profiles_of_those_in_it(dataset: Dataset) -> None:
    middle = RECORDS[200].timestamp
    whole, late = history(dataset, []), history(dataset, [], from_ms=middle)
    kept = whole.event_time_ms >= middle
    np.testing.assert_array_equal(late.columns[FEATURE], whole.columns[FEATURE][kept])


def test_a_training_without_profiles_has_no_sources() -> None:
    from schemas.dataset.declaration import load_dataset

    assert history(load_dataset("card_transactions"), []).profile_sources is None
