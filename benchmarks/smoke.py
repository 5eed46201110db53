"""`make bench-smoke`: the ratios that must not slip, in at most three minutes. Always ends with exit code 0.

It measures in the order of importance until its time is used up; what was not measured has no line. The figures are of
short runs on a machine that may be busy: a ratio that slipped is a reason to run `make bench`, not a failure.
"""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator

import msgspec
from rich.console import Console

from benchmarks.contest.contenders import CONTENDERS, Contender
from benchmarks.contest.contest import Contest
from benchmarks.contest.environment import CORES, BenchmarkEnvironment, benchmark_environment
from benchmarks.handler_costs import batches
from benchmarks.results.result_rows import FULL, ResultRow, figure

ROWS = 150_000
SECONDS = 4.0  # at a rate
RATE = "1000"
STEP_S = {FULL: 25.0, RATE: 20.0}  # a step is not begun unless so much time is left
STEPS = (("tamiz", FULL), ("loop", FULL), ("tamiz", RATE), ("loop", RATE), ("tamiz-eo", FULL))


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio and its limit."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def slipped(self) -> bool:
        """Whether the limit is exceeded."""
        low = self.least is not None and self.value < self.least
        return low or (self.most is not None and self.value > self.most)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.smoke", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3.0)
    options = parser.parse_args()
    console = Console(width=110)
    until = time.monotonic() + 60 * options.minutes
    costs: dict[float, float] = {}
    rows: dict[tuple[str, str], ResultRow] = {}
    try:
        with benchmark_environment() as stage:
            with _first_core():
                values = stage.simulated_file(20_000).read_bytes().splitlines()
                costs = dict(batches(stage.bundle, values, (1, 50, 500, 2_000)))
            for row in measured(stage, until, console):
                rows[row.contender, row.rate] = row
    except Exception as error:  # information, never a failure
        console.print(f"bench-smoke could not measure everything: {error}", markup=False)
    report(ratios(costs, rows), console)


@contextlib.contextmanager
def _first_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {CORES[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(stage: BenchmarkEnvironment, until: float, console: Console) -> Iterator[ResultRow]:
    """A row for each step, as long as time is left."""
    by_name: dict[str, Contender] = {contender.name: contender for contender in CONTENDERS}
    contest = Contest(stage, console, rows=ROWS, seconds=SECONDS)
    contest.warm_up(by_name["tamiz"])
    for name, rate in STEPS:
        if until - time.monotonic() < STEP_S[rate]:
            return
        if rate == FULL:
            yield contest.full_load(by_name[name])
        else:
            yield from contest.paced(by_name[name], [int(rate)])


def ratios(costs: dict[float, float], rows: dict[tuple[str, str], ResultRow]) -> list[Ratio]:
    """The ratios whose figures were measured."""
    found = []
    if costs:
        found += [
            Ratio(name="handler alone, batches of 500 : of 2,000, CPU", value=costs[500] / costs[2_000], most=1.3),
            Ratio(name="handler alone, batches of 50 : of 2,000, CPU", value=costs[50] / costs[2_000], most=4.0),
            Ratio(name="handler alone, one by one : batches of 2,000, CPU", value=costs[1] / costs[2_000], most=45.0),
        ]
    done = {place: row for place, row in rows.items() if row.failure is None}

    ours = done.get(("tamiz", FULL))
    if ours and costs:
        ratio = (ours.cpu_us or 0.0) / costs[2_000]
        found.append(Ratio(name="full load, worker : handler alone, CPU", value=ratio, most=2.0))
    for name, pair, rate, what, least, most in (
        ("full load, tamiz : loop, throughput", ("tamiz", "loop"), FULL, "per_second", 1.1, None),
        ("1,000/s, tamiz : loop, CPU", ("tamiz", "loop"), RATE, "cpu_share", None, 1.3),
        ("1,000/s, tamiz : loop, p99", ("tamiz", "loop"), RATE, "p99", None, 1.2),
        ("full load, exactly once : at least once", ("tamiz-eo", "tamiz"), FULL, "per_second", 0.8, None),
    ):
        first, second = (figure(done.get((contender, rate)), what) for contender in pair)
        if first and second:
            found.append(Ratio(name=name, value=first / second, least=least, most=most))
    return found


def report(found: list[Ratio], console: Console) -> None:
    """Print every ratio with its limit, and one line that states whether any slipped."""
    for ratio in found:
        limit = f"≥ {ratio.least:g}" if ratio.least is not None else f"≤ {ratio.most:g}"
        console.print(f"{'SLIPPED' if ratio.slipped else 'kept   '} {ratio.name}: {ratio.value:.2f}, {limit}")
    slipped = [ratio.name for ratio in found if ratio.slipped]
    if slipped:
        console.print(f"bench-smoke: {len(slipped)} of {len(found)} ratios slipped: run `make bench`")
    else:
        console.print(f"bench-smoke: all {len(found)} measured ratios are kept")


if __name__ == "__main__":
    main()
