"""Schedule of an open loop, and latencies from what a reader saw."""

import numpy as np
import pytest

from benchmarks.load.schedule import due_times, latencies, percentiles_ms, schedule


@pytest.mark.parametrize("rate", [1, 200, 1_000, 2_000, 5_000, 20_000])
def test_a_schedule_has_exactly_its_rate(rate: int) -> None:
    plan = schedule(rate, 3.0)
    assert plan.total == 3 * rate
    assert plan.ticks * plan.tick_s == pytest.approx(3.0)


def test_due_times_follow_the_order_of_offsets_in_each_partition() -> None:
    plan = schedule(4_000, 0.002)  # two ticks of four transactions
    due = due_times(plan, [0, 1, 1])  # sent in turn: 0 1 1 0 | 1 1 0 1
    assert due[0].tolist() == [0.0, 0.0, 0.001]
    assert due[1].tolist() == [0.0, 0.0, 0.001, 0.001, 0.001]


def test_latency_counts_from_the_due_time_to_the_first_decision() -> None:
    due = {0: np.array([0.0, 1.0]), 1: np.array([0.5])}
    partitions, offsets = np.array([1, 0, 0, 0, 7, 0]), np.array([10, 6, 5, 6, 5, 4])
    read = np.array([0.75, 1.25, 0.125, 9.0, 0.1, 0.1])  # the last two are no transactions of this run
    times, late = latencies(due, {0: 5, 1: 10}, partitions, offsets, read)
    assert times.tolist() == [0.0, 0.5, 1.0]
    assert late.tolist() == [0.125, 0.25, 0.25]


def test_a_transaction_without_a_decision_has_infinite_latency() -> None:
    none = np.array([], dtype=np.int64)
    _, late = latencies({0: np.array([0.0])}, {}, none, none, np.array([]))
    assert np.isinf(late).all()
    assert percentiles_ms(late) == {"p50": None, "p99": None, "p99.9": None}


def test_percentiles_are_latencies_that_occurred() -> None:
    assert percentiles_ms(np.arange(1, 1_001) / 1_000) == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0}
