"""Schedule of an open loop, and latencies from what a reader saw."""

import numpy as np
import pytest

from benchmarks.load.schedule import Schedule, SentRecords, latencies, percentiles_ms, schedule, sent_records


@pytest.mark.parametrize("rate", [1, 200, 1_000, 2_000, 5_000, 20_000])
def test_a_schedule_has_exactly_its_rate(rate: int) -> None:
    plan = schedule(rate, 3.0)
    assert plan.total == 3 * rate
    assert plan.ticks * plan.tick_s == pytest.approx(3.0)


def test_places_of_what_was_sent_come_from_the_answers_in_any_order() -> None:
    plan = Schedule(per_tick=3, tick_s=0.5, ticks=3)
    counts = [{0: 1, 1: 2}, {1: 3}]  # the third tick sends the first request again
    answers = np.array([[2, 1, 15], [0, 0, 7], [1, 1, 12], [0, 1, 10], [2, 0, 8]])
    sent = sent_records(plan, counts, answers)
    found = sorted(zip(sent.partition.tolist(), sent.offset.tolist(), sent.due.tolist(), strict=True))
    assert found == [
        (0, 7, 0.0),
        (0, 8, 1.0),
        (1, 10, 0.0),
        (1, 11, 0.0),
        (1, 12, 0.5),
        (1, 13, 0.5),
        (1, 14, 0.5),
        (1, 15, 1.0),
        (1, 16, 1.0),
    ]


def test_latency_counts_from_the_due_time_to_the_first_decision() -> None:
    sent = SentRecords(partition=np.array([0, 1, 0]), offset=np.array([6, 10, 5]), due=np.array([1.0, 0.5, 0.0]))
    partitions, offsets = np.array([1, 0, 0, 0, 7, 0]), np.array([10, 6, 5, 6, 5, 4])
    read = np.array([0.75, 1.25, 0.125, 9.0, 0.1, 0.1])  # the last two are no transactions of this run
    times, late = latencies(sent, partitions, offsets, read)
    assert times.tolist() == [0.0, 0.5, 1.0]
    assert late.tolist() == [0.125, 0.25, 0.25]


def test_a_transaction_without_a_decision_has_infinite_latency() -> None:
    sent = SentRecords(partition=np.array([0]), offset=np.array([0]), due=np.array([0.0]))
    none = np.array([], dtype=np.int64)
    _, late = latencies(sent, none, none, np.array([]))
    assert np.isinf(late).all()
    assert percentiles_ms(late) == {"p50": None, "p99": None, "p99.9": None}


def test_percentiles_are_latencies_that_occurred() -> None:
    assert percentiles_ms(np.arange(1, 1_001) / 1_000) == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0}
