"""Fills the tables of `docs/scaling.md` from `docs/bench/*.json`: `python -m benchmarks.scaling_page`.

A table is the text between `<!-- table NAME -->` and `<!-- end -->`; a test checks that the page matches the files.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.contest.contenders import CONTENDERS, RATES
from benchmarks.contest.environment import ROOT
from benchmarks.endurance import FLAT, PAUSE_S, Endurance
from benchmarks.results.result_rows import FULL, ResultRow, Results, read

PAGE = ROOT / "docs" / "scaling.md"
FOLDER = ROOT / "docs" / "bench"
TABLE = re.compile(r"(<!-- table ([a-z-]+) -->\n).*?(?=<!-- end -->)", re.S)
UTILIZATION = 0.5  # of a worker's core: one worker may fail, and a backlog of an hour is processed in an hour
LOADS = (200, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000)
COSTED = ("tamiz", "tamiz-eo", "tamiz-64", "tamiz-profiles", "tamiz-profiles-eo")
Tables = dict[str, Callable[[], str]]


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), tables(FOLDER)), encoding="utf-8")


def filled(page: str, found: Tables) -> str:
    """The page with its tables. A name without a table raises KeyError."""
    return TABLE.sub(lambda match: f"{match[1]}{found[match[2]]()}\n", page)


def tables(folder: Path) -> Tables:
    """Every table by its name; folder: of the JSON files."""
    results = read(folder / "stream.json")
    rows = results.rows if results else []
    return {
        "machine": lambda: machine(results),
        "full": lambda: full_load(rows),
        "cpu": lambda: by_rate(rows, _cpu),
        "latency": lambda: by_rate(rows, _latency),
        "load-side": lambda: by_rate([row for row in rows if row.contender in ("tamiz", "loop")], _load),
        "cores": lambda: cores(rows),
        "settings": lambda: settings(rows),
        "handler": lambda: handler_costs(folder / "handler.json"),
        "endurance": lambda: endurance(folder / "endurance.json"),
    }


def machine(results: Results | None) -> str:
    """Machine, versions, commits and dates."""
    if results is None:
        return "Not measured.\n"
    facts = results.machine
    libraries = ", ".join(f"{name} {number}" for name, number in facts.libraries.items())
    commits = ", ".join(sorted({row.commit for row in results.rows}))
    dates = sorted({row.measured_at[:10] for row in results.rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"Measured {when} on {facts.cores} cores ({facts.cpu}), Linux {facts.kernel}, Python {facts.python}; "
        f"{libraries}; commits {commits}.\n"
    )


def full_load(rows: Sequence[ResultRow]) -> str:
    """Throughput, CPU and memory at full load, and throughput relative to Tamiz."""
    shown = [row for row in rows if row.rate == FULL]
    ours = next((row.per_second for row in shown if row.contender == "tamiz"), None)
    lines = []
    for row in sorted(shown, key=lambda row: -(row.per_second or 0.0)):
        ratio = _number(row.per_second / ours if ours and row.per_second else None, ".2f")
        figures = _number(row.per_second, ",.0f"), ratio, _number(row.cpu_us, ",.1f"), _number(row.peak_mb, ",.0f")
        lines.append((row.title, *(figures if row.failure is None else ("failed", "", "", "")), f"`{row.contender}`"))
    return _table(("one process on one core", "a second", "Tamiz = 1", "CPU µs each", "peak MB", "name"), lines)


def by_rate(rows: Sequence[ResultRow], cell: Callable[[ResultRow], str]) -> str:
    """A line for each contender, and a column for each rate."""
    titles = {row.contender: row.title for row in rows if row.rate != FULL}
    found = {(row.contender, row.rate): row for row in rows}
    lines = []
    for contender, title in titles.items():
        cells, behind = [], False
        for rate in RATES:
            row = found.get((contender, str(rate)))
            cells.append(cell(row) if row else "falls behind" if behind else "-")
            behind = behind or bool(row and row.unanswered)
        lines.append((title, *cells))
    return _table(("transactions per second", *(f"{rate:,}" for rate in RATES)), lines)


def cores(rows: Sequence[ResultRow]) -> str:
    """CPU that a load costs, in cores: measured, or derived from full load, and never less than at a lower rate."""
    found = {(row.contender, row.rate): row for row in rows if row.failure is None}
    shown = [name for name in COSTED if (name, FULL) in found]
    lines = []
    least = dict.fromkeys(shown, 0.0)
    for load in LOADS:
        cells = []
        for name in shown:
            row, full = found.get((name, str(load))), found[name, FULL]
            used = row.cpu_share if row and not row.unanswered else (full.cpu_us or 0.0) * load / 1e6
            used = least[name] = max(used or 0.0, least[name])
            workers = max(1, math.ceil(load / (UTILIZATION * (full.per_second or math.inf))))
            cells.append(f"{used:.2f}{'' if row else ' (derived)'}; {workers}")
        lines.append((f"{load:,}", *cells))
    return _table(("transactions per second", *(found[name, FULL].title for name in shown)), lines)


def settings(rows: Sequence[ResultRow]) -> str:
    """What each contender does."""
    known = {contender.name: contender for contender in CONTENDERS}
    names = dict.fromkeys(row.contender for row in rows)
    return _table(
        ("name", "contender", "settings"),
        [(f"`{name}`", known[name].title, known[name].settings) for name in names if name in known],
    )


def handler_costs(path: Path) -> str:
    """CPU of the handler alone by size of batch, by bytes of a payload, and of the trees."""
    if not path.exists():
        return "Not measured.\n"
    found: dict[str, Any] = json.loads(path.read_bytes())
    batch = _table(
        ("transactions per batch", *(f"{size:,}" for size, _ in found["batch"])),
        [("CPU µs each", *(f"{cost:.1f}" for _, cost in found["batch"]))],
    )
    payload = _table(
        ("bytes per payload", *(f"{size:,}" for size, _ in found["payload"])),
        [("CPU µs each", *(f"{cost:.1f}" for _, cost in found["payload"]))],
    )
    sizes = [trees for trees, _ in next(iter(found["trees"].values()))]
    forests = _table(
        ("XGBoost, trees of depth 6", *(f"{trees:,}" for trees in sizes)),
        [
            (f"{features} features, CPU µs each", *(f"{cost:.1f}" for _, cost in points))
            for features, points in found["trees"].items()
        ],
    )
    picture = "![cost by batch, payload and trees](bench/handler.png)\n"
    return f"{picture}\n{batch}\n{payload}\n{forests}"


def endurance(path: Path) -> str:
    """Memory, latency and pauses of a long run."""
    if not path.exists():
        return "Not measured.\n"
    report = msgspec.json.decode(path.read_bytes(), type=Endurance)
    growth = "-" if report.memory_growth is None else f"{report.memory_growth:+.1%} (limit {FLAT:.0%})"
    figures = [
        ("transactions", f"{report.sent:,}; unanswered {report.unanswered:,}"),
        ("p50 / p99 / p99.9", " / ".join(_number(value, ".1f") for value in report.ms.values()) + " ms"),
        ("CPU", f"{report.cpu_share:.1%} of a core"),
        ("memory in the first and the last minute", f"{report.memory_mb[0]:.0f} MB, {report.memory_mb[-1]:.0f} MB"),
        ("change of memory after settling", growth),
        (f"pauses above {1e3 * PAUSE_S:.0f} ms", str(len(report.pauses))),
    ]
    head = (
        f"{report.minutes:g} minutes at {report.rate:,} per second, commit {report.commit}, {report.measured_at[:10]}"
    )
    text = _table((head, ""), figures)
    if report.pauses:
        lines = [
            (f"{p.at:.1f}", f"{p.transactions:,}", _number(p.worst_ms, ",.0f"), "; ".join(p.causes))
            for p in report.pauses
        ]
        text += "\n" + _table(("pause after s", "transactions", "worst ms", "seen at the same time"), lines)
    return text


def _cpu(row: ResultRow) -> str:
    return "failed" if row.failure else f"{row.cpu_share or 0.0:.0%}"


def _latency(row: ResultRow) -> str:
    if row.failure:
        return "failed"
    if row.unanswered:
        return "falls behind"
    return " / ".join(_number(value, ".1f") for value in row.ms.values())


def _load(row: ResultRow) -> str:
    shares = " / ".join(f"{row.load_shares.get(name, 0.0):.0%}" for name in ("sender", "reader", "broker"))
    return "failed" if row.failure else shares


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    main()
