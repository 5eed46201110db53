"""CPU cost of drift detection, and a check that the number of workers does not change the result."""

import time
from dataclasses import dataclass

import numpy as np

from benchmarks.drift.detectors import FEATURES
from monitoring.counting.bins import FrozenBins, number_bins
from monitoring.counting.panes import PartitionPanes
from monitoring.counting.windows import MergedPanes
from monitoring.drift.baseline import Baseline, estimate_baseline
from monitoring.drift.detector import DetectorPolicy, ECusum, WindowStatistics, window_statistics
from monitoring.drift.evidence import collect_evidence
from schemas.time_units import MINUTE_MS
from scoring.arrays import Indices

PARTITIONS = 8
ROWS = 40_000  # of one partition
REPEATS = 40


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Medians over `REPEATS` runs."""

    evaluation_ms: float  # windows read, every statistic and bound of 20 features × 5 windows, evidence gathered
    pane_us: float  # one e-CUSUM step over 20 features
    counting_us: float  # a transaction, encoded and counted in batches of 2000
    counting_small_us: float  # in batches of 100


def measure_costs(seed: int) -> Costs:
    """Measure on normal inputs of 250 codes."""
    rng = np.random.default_rng(seed)
    bins = _bins(rng)
    baseline = _baseline(bins)
    policy = DetectorPolicy()
    merger, _ = _merged(bins, _rows(rng, bins), workers=1, seed=seed)
    ready = np.zeros(FEATURES, dtype=bool)

    def evaluate() -> None:
        counts, by_hour = merger.windows()
        statistics = window_statistics(bins, counts, by_hour, baseline, policy)
        tolerances = policy.tolerances(baseline)
        collect_evidence(bins, statistics, counts, baseline.expected_counts(by_hour), tolerances, tolerances, ready)

    cusum = ECusum(baseline, policy)
    pane = bins.counts_by_bin(bins.count(_codes(rng, bins, 60)))[0]
    counting = {n: _counting(rng, bins, n) for n in (2000, 100)}
    return Costs(
        evaluation_ms=1e3 * _median(evaluate),
        pane_us=1e6 * _median(lambda: cusum.update(pane, 0)),
        counting_us=counting[2000],
        counting_small_us=counting[100],
    )


def one_worker_equals_eight(seed: int) -> bool:
    """Whether panes, windows and reports are bit-identical for one and eight workers with other batches and order."""
    rng = np.random.default_rng(seed)
    bins = _bins(rng)
    rows = _rows(rng, bins)
    found = []
    for workers in (1, PARTITIONS):
        merger, minutes = _merged(bins, rows, workers, seed + workers)
        counts, by_hour = merger.windows()
        statistics = window_statistics(bins, counts, by_hour, _baseline(bins), DetectorPolicy())
        found.append((minutes, counts.tobytes(), by_hour.tobytes(), _bits(statistics)))
    return found[0] == found[1]


def _bins(rng: np.random.Generator) -> FrozenBins:
    return FrozenBins([number_bins(f"x{i}", rng.normal(size=50_000)) for i in range(FEATURES)])


def _baseline(bins: FrozenBins) -> Baseline:
    return estimate_baseline(bins.reference[None], np.zeros(1, dtype=np.int64))


def _codes(rng: np.random.Generator, bins: FrozenBins, n: int) -> Indices:
    return bins.encode({name: rng.normal(0.02, 1, n) for name in bins.names})


def _rows(rng: np.random.Generator, bins: FrozenBins) -> list[tuple[Indices, np.ndarray]]:
    """Codes and event times of each partition: two hours, out of order by up to a minute and a half."""
    return [
        (
            _codes(rng, bins, ROWS),
            (np.linspace(0, 120 * MINUTE_MS, ROWS) + rng.uniform(0, 90_000, ROWS)).astype(np.int64),
        )
        for _ in range(PARTITIONS)
    ]


def _merged(
    bins: FrozenBins, rows: list[tuple[Indices, np.ndarray]], workers: int, seed: int
) -> tuple[MergedPanes, list[tuple[int, bytes]]]:
    """Merged panes after all rows, counted by `workers` workers with random batches and order."""
    rng = np.random.default_rng(seed)
    merger = MergedPanes(bins, range(PARTITIONS), lateness_ms=MINUTE_MS, idle_timeout_ms=10**12)
    folds = [PartitionPanes(bins, p, MINUTE_MS) for p in range(PARTITIONS)]
    reached = [0] * PARTITIONS
    minutes = []
    while any(r < ROWS for r in reached):
        # One worker takes its partitions in turn; with eight workers the order is random.
        turn = (
            range(PARTITIONS) if workers == 1 else rng.permutation(PARTITIONS)[: rng.integers(1, PARTITIONS)].tolist()
        )
        for p in turn:
            codes, times = rows[p]
            stop = min(ROWS, reached[p] + int(rng.integers(1, 4000)))
            folds[p].update(codes[reached[p] : stop], times[reached[p] : stop], np.arange(reached[p], stop))
            reached[p] = stop
            counted = folds[p].snapshot()
            for pane in (*counted.closed, *counted.open):
                merger.merge(pane)
            merger.advance_watermark(counted.cursor)
            minutes += [(m.start_ms, m.counts.tobytes()) for m in iter(merger.close_next, None)]
    return merger, minutes


def _bits(statistics: WindowStatistics) -> list[bytes]:
    return [np.asarray(getattr(statistics, name)).tobytes() for name in statistics.__dataclass_fields__]


def _counting(rng: np.random.Generator, bins: FrozenBins, n: int) -> float:
    """Microseconds per transaction."""
    batches = 20_000 // n
    columns = [{name: rng.normal(size=n) for name in bins.names} for _ in range(batches)]
    times = [np.arange(i * n, (i + 1) * n, dtype=np.int64) * 1000 for i in range(batches)]
    offsets = [np.arange(i * n, (i + 1) * n) for i in range(batches)]

    def count() -> None:
        fold = PartitionPanes(bins, 0, MINUTE_MS)
        for batch, at, offset in zip(columns, times, offsets, strict=True):
            fold.update(bins.encode(batch), at, offset)

    return 1e6 * _median(count, 7) / (batches * n)


def _median(work: object, repeats: int = REPEATS) -> float:
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()  # type: ignore[operator]
        took.append(time.perf_counter() - began)
    return float(np.median(took))
