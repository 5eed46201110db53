"""Memory of the key's profiles: cards with a month of transactions each, in one partition; measured, not derived.

    python -m benchmarks.components.profile_memory --cards 1000000

Prints the growth of the process's resident memory and the size that the state reports, both per card; with transaction
ids in the payloads and without.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from schemas.dataset.declaration import load_dataset
from schemas.time_units import DAY_MS
from scoring.profiles.keys.key_profiles import KeyProfiles
from scoring.profiles.profile_inputs import ProfileInputs
from scoring.profiles.profile_plan import ProfilePlan

BATCH = 10_000
START_MS = 1_600_000_000_000
DECLARATION = """
name = "cards"
key = "card"
{id}
features = ["amount"]
[event_time]
date = "time"
formats = ["epoch_ms"]
[[fields]]
name = "amount"
kind = "number"
[[profiles]]
entity = "card"
windows = ["1h", "1d", "7d", "30d"]
features = ["count", "sum(amount)", "mean(amount)", "max(amount)", "std(amount)"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cards", type=int, default=1_000_000)
    parser.add_argument("--a-month", type=int, default=60, help="transactions of a card in 30 days")
    parser.add_argument("--days", type=int, default=32)
    parser.add_argument("--ids", choices=["with", "without"], help="one of the two; in a process of its own")
    options = parser.parse_args()
    if options.ids:
        measure(options.cards, options.a_month, options.days, with_ids=options.ids == "with")
        return
    for ids in ("without", "with"):
        words = [sys.executable, "-m", "benchmarks.components.profile_memory", *sys.argv[1:], "--ids", ids]
        subprocess.run(words, check=True)


def measure(cards: int, a_month: int, days: int, *, with_ids: bool) -> None:
    """Fold a month of transactions and print the memory per card."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cards.toml"
        path.write_text(DECLARATION.format(id='transaction_id = "id"' if with_ids else ""))
        plan = ProfilePlan.of(load_dataset(str(path)))
    draw, process = np.random.default_rng(0), psutil.Process()
    warm = inputs(draw, 0, 1, START_MS, 1.0)
    KeyProfiles(plan).update(warm, warm.entities["card"])  # compiles
    before, profiles = process.memory_info().rss, KeyProfiles(plan)
    n = cards * a_month * days // 30
    began, step_ms = time.process_time(), days * DAY_MS / n
    for first in range(0, n, BATCH):
        part = inputs(draw, first, cards, START_MS, step_ms)
        profiles.update(part, part.entities["card"])
    seconds = time.process_time() - began
    resident = (process.memory_info().rss - before) / cards
    print(
        f"{cards:,} cards, {a_month} transactions a month each, {'with' if with_ids else 'without'} transaction ids: "
        f"{resident:.0f} bytes of resident memory a card ({profiles.n_bytes / cards:.0f} by the state's own account), "
        f"{seconds / n * 1e6:.2f} us of CPU a transaction"
    )


def inputs(draw: np.random.Generator, first: int, cards: int, start_ms: int, step_ms: float) -> ProfileInputs:
    """The next transactions, spread evenly over time, of cards drawn at random."""
    n = BATCH
    hashes = draw.integers(0, cards, n).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    return ProfileInputs(
        event_time_ms=start_ms + ((first + np.arange(n)) * step_ms).astype(np.int64),
        entities={"card": hashes},
        values=draw.lognormal(3, 1, (n, 1)).astype(np.float32),
        levels=np.empty((n, 0), np.uint32),
        ids=draw.integers(1, 2**63, n).astype(np.uint64),
    )


if __name__ == "__main__":
    main()
