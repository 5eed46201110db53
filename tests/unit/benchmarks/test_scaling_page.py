"""The page of scaling: its tables come from the files of results."""

from pathlib import Path

import pytest

from benchmarks.results.result_rows import FULL, Results, write
from benchmarks.scaling_page import FOLDER, PAGE, TABLE, by_rate, cores, filled, full_load, tables
from tests.unit.benchmarks.test_result_rows import MACHINE, row


def test_the_figures_of_the_page_are_those_of_the_files() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, tables(FOLDER)) == page, "run `python -m benchmarks.scaling_page`"


def test_every_table_has_its_place_on_the_page() -> None:
    assert sorted(match[2] for match in TABLE.finditer(PAGE.read_text(encoding="utf-8"))) == sorted(tables(FOLDER))


def test_filling_replaces_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "stream.json", Results(machine=MACHINE, rows=[row("tamiz", FULL, 50_000.0, cpu_us=12.0)]))
    page = "before\n<!-- table full -->\nold\n<!-- end -->\nafter\n"
    once = filled(page, tables(tmp_path))
    assert "| tamiz | 50,000 | 1.00 | 12.0 | - | `tamiz` |" in once
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("<!-- end -->\nafter\n")
    assert filled(once, tables(tmp_path)) == once
    with pytest.raises(KeyError):
        filled("<!-- table other -->\n<!-- end -->", tables(tmp_path))


def test_a_failed_contender_is_a_row_that_says_so() -> None:
    assert "| quix | failed |" in full_load([row("tamiz", FULL, 10.0), row("quix", FULL, None, failure="ended")])


def test_rates_after_one_at_which_a_contender_falls_behind_say_so() -> None:
    rows = [row("quix", "200", unanswered=0), row("quix", "1000", unanswered=5)]
    line = by_rate(rows, lambda one: "behind" if one.unanswered else "fine").splitlines()[-1]
    assert line == "| quix | fine | behind | falls behind | falls behind | falls behind | falls behind |"


def test_cores_are_measured_where_they_can_be_and_derived_elsewhere() -> None:
    rows = [row("tamiz", FULL, 50_000.0, cpu_us=20.0), row("tamiz", "1000", cpu_share=0.25)]
    lines = cores(rows).splitlines()
    assert "| 1,000 | 0.25; 1 |" in lines
    assert "| 100,000 | 2.00 (derived); 4 |" in lines
