"""Rows of results: merging partial runs, and medians."""

from pathlib import Path

import msgspec

from benchmarks.results.result_rows import Machine, ResultRow, Results, figure, median_row, merge, read, write

MACHINE = Machine(cpu="one", cores=2, kernel="6", python="3.12", libraries={})


def row(contender: str, rate: str, per_second: float | None = 1.0, **changes: object) -> ResultRow:
    return msgspec.structs.replace(
        ResultRow(
            contender=contender,
            title=contender,
            settings="",
            guarantee="at-least-once",
            partitions=4,
            profiles=False,
            rate=rate,
            commit="c",
            measured_at="2026-01-01T00:00Z",
            command="",
            per_second=per_second,
        ),
        **changes,
    )


def test_a_partial_run_replaces_only_its_rows() -> None:
    before = Results(machine=MACHINE, rows=[row("a", "full"), row("b", "full"), row("b", "200")])
    merged = merge(before, MACHINE, [row("b", "full", 2.0), row("b", "1000")], ["a", "b"])
    assert [(r.contender, r.rate, r.per_second) for r in merged.rows] == [
        ("a", "full", 1.0),
        ("b", "full", 2.0),
        ("b", "200", 1.0),
        ("b", "1000", 1.0),
    ]


def test_rows_of_another_machine_are_dropped() -> None:
    before = Results(machine=msgspec.structs.replace(MACHINE, cores=64), rows=[row("a", "full")])
    assert [r.contender for r in merge(before, MACHINE, [row("b", "full")], []).rows] == ["b"]


def test_a_file_of_another_form_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "stream.json"
    assert read(path) is None
    write(path, Results(machine=MACHINE, rows=[row("a", "full")]))
    assert read(path) == Results(machine=MACHINE, rows=[row("a", "full")])
    path.write_text('{"contenders": []}', encoding="utf-8")
    assert read(path) is None


def test_the_median_ignores_failed_runs() -> None:
    runs = [
        row("a", "full", 1.0, runs_per_second=[1], peak_mb=9.0),
        row("a", "full", None, failure="ended"),
        row("a", "full", 3.0, runs_per_second=[3], peak_mb=7.0),
        row("a", "full", 8.0, runs_per_second=[8], peak_mb=8.0),
    ]
    found = median_row(runs)
    assert (found.per_second, found.runs_per_second, found.peak_mb, found.failure) == (3.0, [1, 3, 8], 9.0, None)
    assert median_row(runs[1:2]).failure == "ended"


def test_the_median_of_a_percentile_that_a_run_did_not_reach_is_unknown() -> None:
    runs = [row("a", "200", ms={"p50": 1.0, "p99": None}), row("a", "200", ms={"p50": 3.0, "p99": 4.0})]
    assert median_row(runs).ms == {"p50": 2.0, "p99": None}


def test_a_figure_is_a_percentile_or_an_attribute() -> None:
    one = row("a", "200", ms={"p99": 4.0}, cpu_share=0.5)
    assert (figure(one, "p99"), figure(one, "cpu_share"), figure(one, "p50"), figure(None, "p99")) == (
        4.0,
        0.5,
        None,
        None,
    )
