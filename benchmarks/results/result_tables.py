"""Tables of the stream benchmarks: on the terminal, and in `docs/scaling.md`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.results.result_rows import FULL, ResultRow, figure


def print_rows(rows: Sequence[ResultRow], console: Console) -> None:
    """Print every row and its command."""
    table = Table(title="One process on one core", title_justify="left")
    for head in (
        "",
        "rate",
        "a second",
        "CPU µs",
        "CPU",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "unanswered",
        "load CPU",
        "MB",
    ):
        table.add_column(head, justify="right" if head else "left")
    for row in rows:
        if row.failure:
            table.add_row(row.contender, row.rate, "failed")
            continue
        ms = [_number(row.ms.get(name), ".1f") for name in ("p50", "p99", "p99.9")]
        load = f"{sum(row.load_shares.values()):.0%}" if row.load_shares else ""
        unanswered = "" if row.unanswered is None else f"{row.unanswered:,}"
        numbers = _number(row.per_second, ",.0f"), _number(row.cpu_us, ".1f"), _number(row.cpu_share, ".1%")
        table.add_row(row.contender, row.rate, *numbers, *ms, unanswered, load, _number(row.peak_mb, ".0f"))
    console.print(table)
    for row in rows:
        console.print(f"{row.contender} {row.rate}: {row.failure or row.command}", highlight=False, markup=False)


def print_bars(rows: Sequence[ResultRow], console: Console) -> None:
    """Print the bars and whether they are met, as far as their rows were measured."""
    for met, bar in bars(rows):
        console.print(f"{'met   ' if met else 'MISSED'} {bar}", highlight=False)


def bars(rows: Sequence[ResultRow]) -> list[tuple[bool, str]]:
    """Every bar whose rows were measured."""
    found: list[tuple[bool, str]] = []
    known = {(row.contender, row.rate): row for row in rows if row.failure is None}
    rates = sorted({int(row.rate) for row in rows if row.rate != FULL})

    def ratio(name: str, ours: float | None, theirs: float | None, least: float | None, most: float | None) -> None:
        if ours is None or not theirs:
            return
        times = ours / theirs
        met = times >= least if least is not None else times <= (most or 0.0)
        limit = f"≥ {least:g}" if least is not None else f"≤ {most:g}"
        found.append((met, f"{name}: {times:.2f}, {limit}"))

    def value(contender: str, rate: str, what: str) -> float | None:
        return figure(known.get((contender, rate)), what)

    for rate in rates:
        for what, name, most in (("cpu_share", "CPU", 1.2), ("p99", "p99", 1.0), ("p50", "p50", 1.1)):
            if what == "cpu_share" and rate > 10_000:
                continue
            pair = value("tamiz", str(rate), what), value("loop", str(rate), what)
            ratio(f"{name} at {rate:,}/s, tamiz : loop", *pair, None, most)
    for peer, least in (("loop@2f0ac41", 1.4), ("loop", 0.0), ("pipeline", 1.1), ("pipeline-zstd", 1.1)):
        pair = value("tamiz", FULL, "per_second"), value(peer, FULL, "per_second")
        ratio(f"full load, tamiz : {peer}", *pair, least, None)
    for suffix in ("", "-64", "-profiles"):
        pair = value(f"tamiz{suffix}-eo", FULL, "per_second"), value(f"tamiz{suffix}", FULL, "per_second")
        ratio(f"full load, tamiz{suffix}-eo : tamiz{suffix}", *pair, 0.85 if not suffix else 0.0, None)
    pair = value("tamiz-eo", "2000", "p99"), value("tamiz", "2000", "p99")
    ratio("p99 at 2,000/s, tamiz-eo : tamiz", *pair, None, 1.5)
    if (cost := value("tamiz", FULL, "cpu_us")) is not None:
        found.append((cost <= 12.0, f"CPU of tamiz at full load: {cost:.1f} µs, ≤ 12"))
    if (rate_64 := value("tamiz-64", FULL, "per_second")) is not None:
        found.append((rate_64 >= 40_000, f"64 partitions: {rate_64:,.0f}/s, ≥ 40,000"))
    return found


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
