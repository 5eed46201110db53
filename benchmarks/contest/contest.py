"""Runs one contender at full load, or at rates, and makes rows of its results. A failure is a row with its reason."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from subprocess import Popen

import msgspec
from rich.console import Console

from benchmarks.contest.contenders import Contender
from benchmarks.contest.environment import BenchmarkChampion, BenchmarkEnvironment
from benchmarks.contest.process_metrics import measure
from benchmarks.contest.trees import THIS_TREE, Tree, tree_of
from benchmarks.load.paced_run import run_paced
from benchmarks.results.result_rows import FULL, ResultRow, now, this_commit
from benchmarks.rules.example_rules import card_entries, field_rules
from chaos.rule_changes import RuleTopics
from schemas.configuration.settings import Settings
from schemas.rules import list_entry_key
from stream_app.rules.record_writer import write_records

TIMEOUT_S = 20.0  # of full load
LINGER_S = 0.005  # within which peers that work in batches close a batch at a rate; part of their latency
FULL_LINGER_S = 1.0
FIRST_TIMEOUT_S = 180.0  # a tree whose loops are not compiled yet compiles them
WARM_UP = 2_000, 8.0  # transactions per second, seconds
PROFILE_DAYS = 1  # event time. Over a month, tiles of five minutes would close every few transactions
DAYS = 29
LISTED_CARDS = 10_000


class Contest:
    """One broker and its topics, on which contenders run one after the other."""

    def __init__(self, stage: BenchmarkEnvironment, console: Console, *, rows: int, seconds: float) -> None:
        """rows: of a topic at full load. seconds: measured at a rate."""
        self._stage, self._console = stage, console
        self._row_count, self._seconds = rows, seconds
        self._topics: dict[tuple[int, int], str] = {}

    def warm_up(self, contender: Contender) -> None:
        """Let the broker's JVM compile what it needs, so that the first contender has no disadvantage."""
        try:
            settings = self._settings(contender)
            with self._start(contender, settings, LINGER_S) as process:
                await_first(self._stage, settings)
                run_paced(self._stage, settings, process.pid, *WARM_UP)
        except Exception as error:  # its rows will say so
            self._console.print(f"warm-up with {contender.name} failed: {error}", markup=False)

    def full_load(self, contender: Contender) -> ResultRow:
        """Read a filled topic to its end."""
        return self._try(contender, FULL, self._at_full_load)

    def paced(self, contender: Contender, rates: Sequence[int]) -> Iterator[ResultRow]:
        """One process at all rates; after one at which it falls behind, the higher ones are skipped."""
        with ExitStack() as stack:
            started: list[tuple[Settings, int]] = []

            def start(rate: int) -> ResultRow:
                if not started:
                    settings = self._settings(contender)
                    process = stack.enter_context(self._start(contender, settings, LINGER_S))
                    await_first(self._stage, settings)
                    started.append((settings, process.pid))
                return self._at_rate(contender, *started[0], rate)

            for rate in rates:
                row = self._try(contender, str(rate), lambda rate=rate: start(rate))
                yield row
                if row.failure or row.unanswered:
                    return

    def _settings(self, contender: Contender, transactions: str | None = None) -> Settings:
        _, champion = tree_and_champion(self._stage, contender)
        settings = self._stage.create_topics(
            contender.partitions, transactions, champion, processing_guarantee=contender.guarantee
        )
        if contender.rules:
            write_example_rules(settings)
        return settings

    def _start(self, contender: Contender, settings: Settings, within_s: float) -> AbstractContextManager[Popen[bytes]]:
        tree, champion = tree_and_champion(self._stage, contender)
        return self._stage.run_contender(
            contender.program, settings, within_s, bundle=champion.bundle, tree=tree, options=contender.options
        )

    def _at_full_load(self, contender: Contender) -> ResultRow:
        days = PROFILE_DAYS if contender.profiles else DAYS
        place = contender.partitions, days
        if place not in self._topics:
            settings = self._settings(contender)
            self._stage.fill(settings, self._stage.simulated_file(self._row_count, days=days))
            self._topics[place] = settings.transactions_topic
        settings = self._settings(contender, self._topics[place])
        with self._start(contender, settings, FULL_LINGER_S) as process, self._stage.count_outputs(settings) as counted:
            run = measure(process.pid, counted, self._row_count, TIMEOUT_S)
        return msgspec.structs.replace(
            empty_row(contender, FULL),
            per_second=round(run.per_second),
            runs_per_second=[round(run.per_second)],
            cpu_us=round(run.cpu_us, 2),
            cpu_share=round(run.cpu_seconds / run.seconds, 4),
            peak_mb=round(run.peak_mb, 1),
        )

    def _at_rate(self, contender: Contender, settings: Settings, pid: int, rate: int) -> ResultRow:
        run, _ = run_paced(self._stage, settings, pid, rate, self._seconds)
        return msgspec.structs.replace(
            empty_row(contender, str(rate)),
            per_second=rate,
            cpu_share=round(run.cpu_share, 4),
            cpu_us=round(1e6 * run.cpu_share / rate, 2),
            ms=run.ms,
            sent=run.sent,
            unanswered=run.unanswered,
            load_shares={name: round(share, 4) for name, share in run.load_shares.items()},
            sender_late_ms={name: round(ms, 3) for name, ms in run.sender_late_ms.items()},
            acknowledged_ms={name: round(ms, 3) for name, ms in run.acknowledged_ms.items()},
            peak_mb=round(run.resident_mb, 1),
        )

    def _try(self, contender: Contender, rate: str, run: Callable[..., ResultRow]) -> ResultRow:
        try:
            row = run(contender) if rate == FULL else run()
        except Exception as error:  # a contender that fails is a row
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:600]
            row = msgspec.structs.replace(empty_row(contender, rate), failure=failure)
        self._console.print(one_line(row), highlight=False, markup=False, soft_wrap=True)
        return row


def empty_row(contender: Contender, rate: str) -> ResultRow:
    """A row without figures."""
    return ResultRow(
        contender=contender.name,
        title=contender.title,
        settings=contender.settings,
        guarantee=contender.guarantee,
        partitions=contender.partitions,
        profiles=contender.profiles,
        rate=rate,
        commit=contender.commit or this_commit(),
        measured_at=now(),
        command=f"python -m benchmarks.stream --only {contender.name} --rates {rate}",
    )


def one_line(row: ResultRow) -> str:
    """A row, as it is printed when it is measured."""
    if row.failure:
        return f"{row.contender} {row.rate}: FAILED: {row.failure}"
    if row.rate == FULL:
        return f"{row.contender} full: {row.per_second:,.0f}/s, {row.cpu_us:.1f} µs"
    shares = ", ".join(f"{name} {share:.0%}" for name, share in row.load_shares.items())
    ms = ", ".join(f"{name} {'never' if value is None else f'{value:.1f}'}" for name, value in row.ms.items())
    late = row.sender_late_ms
    return (
        f"{row.contender} {row.rate}/s: CPU {row.cpu_share:.1%}, {ms} ms, unanswered {row.unanswered}; {shares}, "
        f"p99: sender late {late['p99']:.1f} ms, broker has it after {row.acknowledged_ms['p99']:.1f} ms"
    )


def write_example_rules(settings: Settings) -> None:
    """Put a hundred rules in force, and cards on the lists that they read."""
    topics = RuleTopics(settings)
    topics.add_ruleset(field_rules())
    topics.close()
    entries = ((list_entry_key(entry), msgspec.json.encode(entry)) for entry in card_entries(LISTED_CARDS))
    write_records(settings, settings.lists_topic, entries)


def tree_and_champion(stage: BenchmarkEnvironment, contender: Contender) -> tuple[Tree, BenchmarkChampion]:
    """What a contender runs and scores with."""
    tree = tree_of(contender.commit) if contender.commit else THIS_TREE
    return tree, stage.champion(tree, contender.profiles)


def await_first(stage: BenchmarkEnvironment, settings: Settings) -> None:
    """Send transactions until the first is decided, so that the contender has started."""
    few = stage.folder / "few.jsonl"
    few.write_bytes(b"\n".join(stage.simulated_file(1_000).read_bytes().splitlines()[:8]) + b"\n")
    stage.fill(settings, few)
    with stage.count_outputs(settings) as counted:
        until = time.monotonic() + FIRST_TIMEOUT_S
        while counted() < 8:
            if time.monotonic() > until:
                raise RuntimeError(f"no decision within {FIRST_TIMEOUT_S:.0f} s of the start")
            time.sleep(0.1)
    time.sleep(0.5)
