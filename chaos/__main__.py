"""`python -m chaos`: the long form, from the command line; `python -m chaos matrix`: a worker killed at each step."""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chaos.fuzz.fuzz_control import fuzz_control
from chaos.fuzz.fuzz_payloads import fuzz
from chaos.fuzz.fuzz_records import fuzz_records
from chaos.run import Outcome, RunPlan, weather
from chaos.scenarios import CELLS, SCENARIOS
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from stream_app.worker.champion_cache import ChampionCache
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train

GUARANTEES = ("at-least-once", "exactly-once")


def main() -> int:
    """Run storms; 0 when every guarantee was kept."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default="storm",
        help="storm, matrix, scenarios, one of their names, fuzz, fuzz-payloads or fuzz-control",
    )
    parser.add_argument(
        "--processing-guarantee", choices=GUARANTEES, action="append", help="default: both, one after the other"
    )
    faults = ("kills", "pauses", "restarts", "promotions", "rebalances", "registry-outages", "full-disks")
    for name in ("transactions", *faults):
        parser.add_argument(f"--{name}", type=int, default=20_000 if name == "transactions" else 1)
    parser.add_argument("--rate", type=float, default=2_000.0, help="transactions per second going in, at most")
    parser.add_argument("--outage", type=float, default=3.0, help="seconds that the broker stays away")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    if asked.what == "fuzz":
        return throw(asked.transactions, asked.seed, asked.processing_guarantee or GUARANTEES)
    if asked.what == "fuzz-payloads":
        return feed(asked.transactions, asked.seed)
    if asked.what == "fuzz-control":
        return feed_control(asked.transactions, asked.seed)
    storm = RunPlan(
        transactions=asked.transactions,
        kills=asked.kills,
        pauses=asked.pauses,
        restarts=asked.restarts,
        promotions=asked.promotions,
        rebalances=asked.rebalances,
        registry_outages=asked.registry_outages,
        full_disks=asked.full_disks,
        rate=asked.rate,
        outage_s=asked.outage,
        seed=asked.seed,
    )
    groups = {"storm": {"storm": storm}, "matrix": CELLS, "scenarios": SCENARIOS}
    named = {name: {name: plan} for name, plan in (CELLS | SCENARIOS).items()}
    if (plans := (groups | named).get(asked.what)) is None:
        parser.error(f"{asked.what!r}: there is no such storm; there are {', '.join(groups | named)}")
    kept = True
    with prepared() as (settings, broker):
        for guarantee in asked.processing_guarantee or GUARANTEES:
            ours = msgspec.structs.replace(settings, processing_guarantee=guarantee)
            for name, plan in plans.items():
                outcome = weather(
                    ours,
                    broker.bootstrap_servers,
                    plan,
                    restart=broker.restart,
                    say=lambda line: print(line, flush=True),
                )
                print(told(name, outcome), flush=True)
                kept &= outcome.kept
    return 0 if kept else 1


def throw(n: int, seed: int, guarantees: Sequence[str]) -> int:
    """Fuzz workers with records; 0 when each was answered and the workers live."""
    kept = True
    with prepared() as (settings, broker):
        for guarantee in guarantees:
            ours = msgspec.structs.replace(settings, processing_guarantee=guarantee)
            outcome = fuzz_records(ours, broker.bootstrap_servers, n, seed, lambda line: print(line, flush=True))
            print_outcome(f"fuzz {'kept' if outcome.kept else 'BROKEN'}", outcome)
            kept &= outcome.kept
    return 0 if kept else 1


def print_outcome(head: str, outcome: msgspec.Struct) -> None:
    """A result for people."""
    rows = msgspec.structs.asdict(outcome).items()
    print("\n".join([head, *(f"  {name.replace('_', ' '):24s} {value}" for name, value in rows)]), flush=True)


def feed(n: int, seed: int) -> int:
    """Fuzz the handler; 0 when memory stayed flat and nothing was beyond our code."""
    with tempfile.TemporaryDirectory(prefix="tamiz-chaos-") as folder:
        settings = with_two_versions(Path(folder))
        store = ChampionCache(settings, load_dataset(settings.dataset))
        store.open()
        survived = fuzz(settings, store.current, n, seed)
    print_outcome("fuzz-payloads", survived)
    flat = survived.memory_at_the_end_mb < 1.1 * survived.memory_after_a_tenth_mb
    return 0 if flat and not survived.internal_errors else 1


def feed_control(n: int, seed: int) -> int:
    """Fuzz every control topic with n records; 0 when every service answered the good record sent last."""
    with prepared() as (settings, broker):
        survived = fuzz_control(settings, broker.bootstrap_servers, n, seed)
    print("\n".join(f"  {name.replace('_', ' '):24s} {v}" for name, v in msgspec.structs.asdict(survived).items()))
    return 1 if survived.problems else 0


def with_two_versions(folder: Path) -> Settings:
    """Settings whose registry has two versions of a model."""
    settings = msgspec.structs.replace(load({}), state_dir=folder, registry_poll_seconds=1, log_level="INFO")
    for seed in (1, 2):
        traffic = Traffic(rows=8_000, seed=seed, signal=True)
        write(traffic, simulate(traffic), folder / "history.csv")
        train(settings, folder / "history.csv", force="chaos needs two versions")
    return settings


@contextmanager
def prepared() -> Iterator[tuple[Settings, EmbeddedBroker]]:
    """A broker, and a registry with two versions of a model."""
    with tempfile.TemporaryDirectory(prefix="tamiz-chaos-") as folder, EmbeddedBroker() as broker:
        yield with_two_versions(Path(folder)), broker


def told(name: str, outcome: Outcome) -> str:
    """An outcome for people."""
    word = "kept" if outcome.kept else "BROKEN"
    rows = msgspec.structs.asdict(outcome.account) | {"faults": outcome.faults, "workers ended": outcome.deaths}
    rows |= {"back after an outage, s": outcome.back_after_s}
    lines = [f"  {key.replace('_', ' '):24s} {value}" for key, value in rows.items()]
    head = f"{name}: {outcome.processing_guarantee} {word} in {outcome.seconds} s, seed {outcome.seed}"
    return "\n".join([head + ("" if outcome.settled else " (not settled)"), *lines])


if __name__ == "__main__":
    sys.exit(main())
