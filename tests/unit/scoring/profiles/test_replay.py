"""Replay gives the values that a worker logs, whatever its batches and however partitions interleave."""

import numpy as np
import pytest

from schemas.dataset.declaration import Dataset
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.replay import Transactions, replay_profiles
from scoring.profiles.shared.label_inputs import label_inputs
from tests.helpers.traffic.profiled_dataset import profiled_dataset
from tests.helpers.traffic.profiled_traffic import busy_cards, collected, late_labels, logged_by_a_worker


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return profiled_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.mark.parametrize("batch", [1, 7, 400], ids="batches of {}".format)
def test_a_replay_has_the_values_that_a_worker_logged(dataset: Dataset, batch: int) -> None:
    records = busy_cards(400)
    by_partition = sorted(records, key=lambda r: (r.partition, r.offset))  # as a reader may get them
    plan, labels = ProfilePlan.of(dataset), late_labels(records)
    replayed = replay_profiles(collected(dataset, Transactions(plan), by_partition, 64), label_inputs(plan, labels))
    compared = 0
    for partition, record in logged_by_a_worker(dataset, records, batch, labels):
        (row,) = replayed.find(np.array([partition]), np.array([record.input_offset]))
        if record.complete:
            assert replayed.values[row].tobytes() == record.values
            compared += 1
    assert compared > (300 if batch == 400 else 20), "a batch closes the tiles of all partitions at once"
    assert np.nanmax(replayed.values[:, plan.names.index("establecimiento_labelled_count_1d")]) > 3


def test_a_replay_of_a_truncated_log_is_incomplete_for_the_longest_window(dataset: Dataset) -> None:
    records = [r for r in busy_cards(300, days=10) if r.partition or r.offset >= 10]
    replayed = replay_profiles(collected(dataset, Transactions(ProfilePlan.of(dataset)), records, 64))
    assert not replayed.complete[:5].any()
    assert 0 < np.count_nonzero(replayed.complete) < len(replayed.complete)


def test_a_replay_reports_its_progress_to_the_end(dataset: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    transactions = collected(dataset, Transactions(ProfilePlan.of(dataset)), busy_cards(50), 50)
    replay_profiles(transactions, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (len(transactions), len(transactions))
    assert seen == sorted(seen)


def test_nothing_is_replayed_of_an_empty_topic(dataset: Dataset) -> None:
    assert len(replay_profiles(Transactions(ProfilePlan.of(dataset))).values) == 0
