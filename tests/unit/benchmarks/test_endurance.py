"""Pauses of a long run, what was seen at the same time, and growth of memory."""

import numpy as np

from benchmarks.endurance import Pause, ResourceSample, causes, gc_pauses, memory_growth, memory_per_minute, pauses


def sample(at: float, **changes: object) -> ResourceSample:
    values: dict[str, object] = {"worker_cpu": 0.3, "broker_cpu": 0.2, "steal": 0.0, "worker_mb": 200.0} | changes
    return ResourceSample(at=at, **values)  # type: ignore[arg-type]


def test_late_transactions_that_were_due_close_together_are_one_pause() -> None:
    due = np.arange(0.0, 10.0, 0.1)
    late = np.full(100, 0.01)
    late[20:23] = 0.3, 0.2, 0.15
    late[60] = np.inf
    assert pauses(due, late) == [
        Pause(at=2.0, seconds=0.2, worst_ms=300.0, transactions=3),
        Pause(at=6.0, seconds=0.0, worst_ms=None, transactions=1),
    ]
    assert pauses(due, np.full(100, 0.1)) == []


def test_a_pause_names_what_was_seen_while_its_transactions_waited() -> None:
    pause = Pause(at=10.0, seconds=0.1, worst_ms=200.0, transactions=3)
    counted = {"batch_records_count": 10.0, "batch_scoring_seconds_sum": 0.02, "batch_publishing_seconds_sum": 1.0}
    samples = [sample(5.0, steal=0.5), sample(10.5, worker_cpu=0.99, metrics=counted), sample(20.0, steal=0.5)]
    assert causes(pause, samples, [(9.0, 500.0), (10.1, 40.0)], [[10.05, 0.06], [30.0, 0.9]]) == [
        "the sender was up to 60 ms late",
        "garbage collection of the broker: 40 ms",
        "the worker used 99% of its core",
        "batches of a second were acknowledged in 100 ms on average",
        "10 to 10 batches per second",
    ]
    assert causes(pause, [], [], []) == ["nothing that this program observes"]


def test_collections_of_the_broker_are_read_from_its_log() -> None:
    log = (
        "[1700000000100ms] Using Serial\n"
        "[1700000002000ms] GC(0) Pause Young (Allocation Failure) 273M->11M(989M) 12.034ms\n"
        "[1700000003000ms] GC(1) Pause Full (Metadata GC Threshold) 30M->20M(989M) 60.5ms\n"
    )
    assert gc_pauses(log, 1_700_000_001.0) == [(1.0, 12.034), (2.0, 60.5)]


def test_memory_is_compared_with_its_first_value_after_settling() -> None:
    samples = [
        sample(60.0 * minute + second, worker_mb=mb) for minute, mb in ((0, 100.0), (1, 200.0)) for second in (1, 2)
    ]
    assert memory_per_minute(samples) == [100.0, 200.0]
    hour = [100.0] * 5 + [150.0] * 5 + [200.0] * 25 + [203.0] * 25
    assert memory_growth(hour) == 203.0 / 200.0 - 1
    assert memory_growth([100.0, 200.0, 190.0]) == 190.0 / 200.0 - 1
    assert memory_growth([100.0]) is None
