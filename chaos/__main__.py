"""Command line of the chaos tests: `python -m chaos` runs random faults, `matrix` kills a worker at each step."""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chaos.fuzz.fuzz_control import fuzz_control
from chaos.fuzz.fuzz_payloads import fuzz_payloads
from chaos.fuzz.fuzz_records import fuzz_records
from chaos.run import RunPlan, RunResult, run_plan
from chaos.scenarios import KILL_SCENARIOS, SCENARIOS
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from stream_app.worker.champion_cache import ChampionCache
from tamiz.dev_broker.embedded_broker import EmbeddedBroker
from tamiz.simulation.payload_formats import write
from tamiz.simulation.simulator import Traffic, simulate
from training.pipeline import train

GUARANTEES = ("at-least-once", "exactly-once")


def main() -> int:
    """Run the chosen plans; returns 0 if every guarantee was kept."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        default="run",
        help="run, matrix, scenarios, one of their names, fuzz, fuzz-payloads or fuzz-control",
    )
    parser.add_argument(
        "--processing-guarantee", choices=GUARANTEES, action="append", help="default: both, one after the other"
    )
    faults = ("kills", "pauses", "restarts", "promotions", "rebalances", "registry-outages", "full-disks")
    for name in ("transactions", *faults):
        parser.add_argument(f"--{name}", type=int, default=20_000 if name == "transactions" else 1)
    parser.add_argument("--rate", type=float, default=2_000.0, help="maximum transactions per second")
    parser.add_argument("--outage", type=float, default=3.0, help="duration of a broker outage in seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    if asked.what == "fuzz":
        return run_fuzz_records(asked.transactions, asked.seed, asked.processing_guarantee or GUARANTEES)
    if asked.what == "fuzz-payloads":
        return run_fuzz_payloads(asked.transactions, asked.seed)
    if asked.what == "fuzz-control":
        return run_fuzz_control(asked.transactions, asked.seed)
    run = RunPlan(
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
    groups = {"run": {"run": run}, "matrix": KILL_SCENARIOS, "scenarios": SCENARIOS}
    named = {name: {name: plan} for name, plan in (KILL_SCENARIOS | SCENARIOS).items()}
    if (plans := (groups | named).get(asked.what)) is None:
        parser.error(f"{asked.what!r}: no such plan; choose one of {', '.join(groups | named)}")
    kept = True
    with chaos_environment() as (settings, broker):
        for guarantee in asked.processing_guarantee or GUARANTEES:
            ours = msgspec.structs.replace(settings, processing_guarantee=guarantee)
            for name, plan in plans.items():
                outcome = run_plan(
                    ours,
                    broker.bootstrap_servers,
                    plan,
                    restart=broker.restart,
                    say=lambda line: print(line, flush=True),
                )
                print(format_result(name, outcome), flush=True)
                kept &= outcome.kept
    return 0 if kept else 1


def run_fuzz_records(n: int, seed: int, guarantees: Sequence[str]) -> int:
    """Fuzz workers with records; returns 0 if each record was answered and no worker ended."""
    kept = True
    with chaos_environment() as (settings, broker):
        for guarantee in guarantees:
            ours = msgspec.structs.replace(settings, processing_guarantee=guarantee)
            outcome = fuzz_records(ours, broker.bootstrap_servers, n, seed, lambda line: print(line, flush=True))
            print_outcome(f"fuzz {'kept' if outcome.kept else 'BROKEN'}", outcome)
            kept &= outcome.kept
    return 0 if kept else 1


def print_outcome(head: str, outcome: msgspec.Struct) -> None:
    """Print a result, one line per field."""
    rows = msgspec.structs.asdict(outcome).items()
    print("\n".join([head, *(f"  {name.replace('_', ' '):24s} {value}" for name, value in rows)]), flush=True)


def run_fuzz_payloads(n: int, seed: int) -> int:
    """Fuzz the handler with payloads; returns 0 if memory stayed flat and there was no internal error."""
    with tempfile.TemporaryDirectory(prefix="tamiz-chaos-") as folder:
        settings = with_two_versions(Path(folder))
        store = ChampionCache(settings, load_dataset(settings.dataset))
        store.open()
        survived = fuzz_payloads(settings, store.current, n, seed)
    print_outcome("fuzz-payloads", survived)
    flat = survived.memory_at_the_end_mb < 1.1 * survived.memory_after_a_tenth_mb
    return 0 if flat and not survived.internal_errors else 1


def run_fuzz_control(n: int, seed: int) -> int:
    """Fuzz every control topic with n records; returns 0 if every service answered the valid record sent last."""
    with chaos_environment() as (settings, broker):
        survived = fuzz_control(settings, broker.bootstrap_servers, n, seed)
    print("\n".join(f"  {name.replace('_', ' '):24s} {v}" for name, v in msgspec.structs.asdict(survived).items()))
    return 1 if survived.problems else 0


def with_two_versions(folder: Path) -> Settings:
    """Train two versions of a model; returns the settings of their registry."""
    settings = msgspec.structs.replace(load({}), state_dir=folder, registry_poll_seconds=1, log_level="INFO")
    for seed in (1, 2):
        traffic = Traffic(rows=8_000, seed=seed, signal=True)
        write(traffic, simulate(traffic), folder / "history.csv")
        train(settings, folder / "history.csv", force="chaos needs two versions")
    return settings


@contextmanager
def chaos_environment() -> Iterator[tuple[Settings, EmbeddedBroker]]:
    """Context manager: a broker, and a registry with two versions of a model."""
    with tempfile.TemporaryDirectory(prefix="tamiz-chaos-") as folder, EmbeddedBroker() as broker:
        yield with_two_versions(Path(folder)), broker


def format_result(name: str, outcome: RunResult) -> str:
    """Result of a run, one line per field."""
    word = "kept" if outcome.kept else "BROKEN"
    rows = msgspec.structs.asdict(outcome.account) | {"faults": outcome.faults, "workers ended": outcome.deaths}
    rows |= {"back after an outage, s": outcome.back_after_s}
    lines = [f"  {key.replace('_', ' '):24s} {value}" for key, value in rows.items()]
    head = f"{name}: {outcome.processing_guarantee} {word} in {outcome.seconds} s, seed {outcome.seed}"
    return "\n".join([head + ("" if outcome.settled else " (not settled)"), *lines])


if __name__ == "__main__":
    sys.exit(main())
