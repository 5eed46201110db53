"""Bars and ratios: what is compared, and with which limit."""

from benchmarks.results.result_rows import FULL, ResultRow
from benchmarks.results.result_tables import bars
from benchmarks.smoke import ratios
from tests.unit.benchmarks.test_result_rows import row


def test_bars_compare_what_was_measured_and_nothing_else() -> None:
    rows = [
        row("tamiz", FULL, 56_000.0, cpu_us=11.0),
        row("loop@2f0ac41", FULL, 40_000.0),
        row("tamiz", "1000", cpu_share=0.3, ms={"p50": 5.0, "p99": 12.0}),
        row("loop", "1000", cpu_share=0.2, ms={"p50": 5.0, "p99": 12.0}),
        row("pipeline", FULL, None, failure="ended"),
    ]
    assert bars(rows) == [
        (False, "CPU at 1,000/s, tamiz : loop: 1.50, ≤ 1.2"),
        (True, "p99 at 1,000/s, tamiz : loop: 1.00, ≤ 1"),
        (True, "p50 at 1,000/s, tamiz : loop: 1.00, ≤ 1.1"),
        (True, "full load, tamiz : loop@2f0ac41: 1.40, ≥ 1.4"),
        (True, "CPU of tamiz at full load: 11.0 µs, ≤ 12"),
    ]


def test_a_ratio_beyond_its_limit_has_slipped() -> None:
    def smoke(contender: str, rate: str, **figures: object) -> tuple[tuple[str, str], ResultRow]:
        return (contender, rate), row(contender, rate, **figures)

    rows = dict(
        [
            smoke("tamiz", FULL, per_second=50.0, cpu_us=20.0),
            smoke("loop", FULL, per_second=40.0),
            smoke("tamiz-eo", FULL, per_second=30.0),
            smoke("tamiz", "1000", cpu_share=0.2, ms={"p99": 10.0}),
            smoke("loop", "1000", cpu_share=0.1, ms={"p99": 10.0}, failure="ended"),
        ]
    )
    found = ratios({1: 100.0, 50: 9.0, 500: 5.0, 2_000: 5.0}, rows)
    assert {ratio.name: (round(ratio.value, 2), ratio.slipped) for ratio in found} == {
        "handler alone, batches of 500 : of 2,000, CPU": (1.0, False),
        "handler alone, batches of 50 : of 2,000, CPU": (1.8, False),
        "handler alone, one by one : batches of 2,000, CPU": (20.0, False),
        "full load, worker : handler alone, CPU": (4.0, True),
        "full load, tamiz : loop, throughput": (1.25, False),
        "full load, exactly once : at least once": (0.6, True),
    }
    assert ratios({}, {}) == []
