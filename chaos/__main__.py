"""`python -m chaos COMMAND`: break Tamiz on purpose and print the balance."""

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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
FAULTS = ("kills", "pauses", "restarts", "promotions", "rebalances", "registry-outages", "full-disks")
PLANS: dict[str, dict[str, RunPlan]] = {"matrix": KILL_SCENARIOS, "scenarios": SCENARIOS}
COMMANDS = {
    "run": "workers under load with as many faults of each kind as the options say",
    "matrix": "a worker killed at each step of a batch",
    "scenarios": "named faults, as Faust's own trackers report them, and a full disk",
    "fuzz": "records of every kind that a broker accepts, sent to real workers",
    "fuzz-payloads": "hostile payloads, given to the handler without a broker",
    "fuzz-control": "hostile records on every topic but the transactions, with all services running",
}


def main() -> int:
    """Run one command; returns 0 if every guarantee was kept."""
    options = arguments().parse_args()
    if "seed" in options:
        print(f"seed {options.seed}", flush=True)
    match options.command:
        case "fuzz":
            return run_fuzz_records(options.transactions, options.seed, options.processing_guarantee or GUARANTEES)
        case "fuzz-payloads":
            return run_fuzz_payloads(options.transactions, options.seed)
        case "fuzz-control":
            return run_fuzz_control(options.transactions, options.seed)
        case "matrix" | "scenarios" as named:
            plans = {name: PLANS[named][name] for name in options.name or PLANS[named]}
        case _:
            plans = {"run": run_plan_of(options)}
    return run_plans(plans, options.processing_guarantee or GUARANTEES)


def arguments() -> argparse.ArgumentParser:
    """The commands, each with the options that it uses."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {name: commands.add_parser(name, help=text, description=text) for name, text in COMMANDS.items()}
    for name, command in made.items():
        if name in PLANS:
            command.add_argument(
                "name",
                nargs="*",
                metavar="NAME",
                type=partial(known, PLANS[name]),
                help=f"default: all; {', '.join(map(repr, PLANS[name]))}",
            )
        else:
            command.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="default: a random one")
            command.add_argument("--transactions", type=int, default=20_000, help="default: %(default)s")
        if name in ("run", "matrix", "scenarios", "fuzz"):
            command.add_argument(
                "--processing-guarantee", choices=GUARANTEES, action="append", help="default: both, one after the other"
            )
    for fault in FAULTS:
        made["run"].add_argument(f"--{fault}", type=int, default=1, help="how many; default: %(default)s")
    made["run"].add_argument("--rate", type=float, default=2_000.0, help="maximum transactions per second")
    made["run"].add_argument(
        "--rule-changes", type=float, default=2.0, help="mean seconds between two changes of rules and lists; 0: none"
    )
    made["run"].add_argument("--outage", type=float, default=3.0, help="duration of a broker outage in seconds")
    return parser


def known(plans: Mapping[str, RunPlan], name: str) -> str:
    """The name of a plan. Raises ArgumentTypeError where there is none of that name."""
    if name not in plans:
        raise argparse.ArgumentTypeError(f"no plan {name!r}; choose from {', '.join(map(repr, plans))}")
    return name


def run_plan_of(options: argparse.Namespace) -> RunPlan:
    """The plan that the options describe."""
    return RunPlan(
        transactions=options.transactions,
        kills=options.kills,
        pauses=options.pauses,
        restarts=options.restarts,
        promotions=options.promotions,
        rebalances=options.rebalances,
        registry_outages=options.registry_outages,
        full_disks=options.full_disks,
        rate=options.rate,
        outage_s=options.outage,
        rule_changes_s=options.rule_changes or None,
        seed=options.seed,
    )


def run_plans(plans: Mapping[str, RunPlan], guarantees: Sequence[str]) -> int:
    """Run plans with each guarantee; returns 0 if all were kept."""
    kept = True
    with chaos_environment() as (settings, broker):
        for guarantee in guarantees:
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
