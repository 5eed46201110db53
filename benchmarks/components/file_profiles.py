"""Profiles of a file: seconds and memory of the fold of 1,750,000 rows with 20 features, on one core.

    python -m benchmarks.components.file_profiles [ROWS]

The bar is 60 s. Compilation by Numba is part of the time in a fresh checkout; it is cached for the next start.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.time_units import DAY_MS
from scoring.arrays import Ints, Objects
from scoring.input.cleaning import CleanedBatch
from training.data.file_profiles import ProfileFiles

ROWS = 1_750_000
DAYS, CARDS, TERMINALS = 183, 5_000, 10_000
FRAUD_SHARE = 0.0084
DECLARATION = """
name = "backfill"
key = "card"
label = "fraud"
features = ["amount"]
[event_time]
date = "time"
formats = ["%Y-%m-%d %H:%M:%S"]
[[fields]]
name = "amount"
kind = "number"
[[fields]]
name = "terminal"
kind = "category"
[[profiles]]
entity = "card"
windows = ["1d", "7d", "30d"]
features = ["count", "mean(amount)", "ratio(amount)", "seconds_since_last"]
[[profiles]]
entity = "terminal"
windows = ["1d", "7d"]
features = ["count"]
[[profiles]]
entity = "terminal"
windows = ["1d", "7d", "30d"]
label_delay = "7d"
features = ["labelled_count", "fraud_rate", "frauds_in_row", "last_label"]
"""


def main() -> None:
    """Print one line for the fold of a generated history."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backfill.toml"
        path.write_text(DECLARATION)
        dataset = load_dataset(str(path))
    files = ProfileFiles()
    files.columns_of_rows(history(dataset, 1_000), dataset, None)  # compiles
    cleaned = history(dataset, n)
    before_mb = peak_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    found = files.columns_of_rows(cleaned, dataset, None).columns
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    columns = {f.name: found[f.name] for f in dataset.profile_features}
    print(
        f"{n:,} rows, {len(columns)} features: {wall:.1f} s ({cpu:.1f} s of CPU, {n / cpu:,.0f} rows/s of CPU); peak "
        f"memory {peak_mb():,.0f} MB, of which {before_mb:,.0f} MB before the fold and "
        f"{sum(column.nbytes for column in columns.values()) / 1e6:,.0f} MB its columns"
    )


def history(dataset: Dataset, n: int) -> CleanedBatch:
    """Cleaned rows as a file gives them, in order of event time."""
    rng = np.random.default_rng(0)
    return CleanedBatch(
        n=n,
        rows=np.arange(n),
        columns={"amount": np.round(rng.lognormal(3, 1, n), 2), "terminal": _names("t", rng.integers(0, TERMINALS, n))},
        event_time_ms=np.sort(rng.integers(0, DAYS * DAY_MS // 1000, n)) * 1000 + 1_500_000_000_000,
        keys=_names("c", rng.integers(0, CARDS, n)).tolist(),
        transaction_ids=[None] * n,
        labels=(rng.random(n) < FRAUD_SHARE).astype(np.float64),
        rejections=[],
    )


def peak_mb() -> float:
    """Peak resident memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _names(prefix: str, numbers: Ints) -> Objects:
    names: Objects = np.array([f"{prefix}{i}" for i in range(int(numbers.max()) + 1)], dtype=object)
    return np.asarray(names[numbers], dtype=object)


if __name__ == "__main__":
    main()
