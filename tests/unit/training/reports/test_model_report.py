"""The PDF report of a model version: its text matches the records, and any PDF reader can extract it."""

import re
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from pypdf import PdfReader
from typer.testing import CliRunner

from scoring.features import featurize
from tamiz.main import app
from tests.helpers.traffic.scored_fixtures import PLAN, card_dataset, month, train_model
from training.data.history import file_sha256
from training.evaluation.backtest import run_backtest
from training.evaluation.backtest_window import last_days
from training.evaluation.evaluation import evaluate
from training.evaluation.review_metrics import metric_title
from training.evaluation.skill_gate import evaluate_skill
from training.evaluation.version_comparison import compare, input_shifts
from training.reports.backtest_figures import draw_backtest
from training.reports.figures import draw_evaluation
from training.reports.model_report import (
    METRIC_WORDS,
    ReportContents,
    metric_cells,
    period_cells,
    review_cells,
    write_model_report,
)


def text_of(path):
    """All words of a PDF, separated by single spaces, because line breaks depend on the layout."""
    return " ".join(" ".join(page.extract_text() for page in PdfReader(path).pages).split())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return [train_model(tmp_path_factory.mktemp("bundle"), month(seed=seed), seed) for seed in (3, 2)]


@pytest.fixture(scope="module")
def contents(models):
    this, other = models
    history = month()
    result = run_backtest(this, card_dataset(), history, plan=PLAN)
    window = last_days(history.event_time_ms)
    labels, columns = history.fraud[window.all_rows], history.columns_at(window.all_rows)
    matrix = featurize(this.encoding, columns)
    figures = draw_evaluation(
        labels, this.score(matrix), result.evaluation,
        contributions=this.contributions(matrix[:300]), values=matrix[:300], names=this.manifest.names,
    )  # fmt: skip
    return ReportContents(
        version=3, manifest=this.manifest, status="challenger", file="month <&> after.csv", rows=history.rows,
        rejected={"bad-number": 12}, unlabelled=7, time_range=history.time_range,
        evaluation=result.evaluation, evaluated_on="the last 7 days",
        gate=evaluate_skill(result.evaluation), written_at="2026-11-23 17:40",
        figures={**figures, **draw_backtest(result)},
        backtest=result, comparison=compare(this, other, history, window, PLAN), previous_version=2,
        shifts=input_shifts(this.manifest, other.manifest, history),
    )  # fmt: skip


@pytest.fixture(scope="module")
def pdf(contents, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "made" / "report.pdf"
    write_model_report(path, contents)
    return path


@pytest.fixture(scope="module")
def words(pdf):
    return text_of(pdf)


def test_every_metric_is_printed_with_its_interval(words, contents):
    for metric in contents.evaluation.metrics:
        value, interval = metric_cells(metric)
        assert f"{metric.value:.4f}" == value
        title = METRIC_WORDS[metric.name][0]
        assert re.search(rf"{re.escape(title)} .{{0,120}}?{re.escape(value)} {re.escape(interval)}", words), title


def test_what_the_reviews_find_is_printed_with_interval_attainable_and_random(words, contents):
    reviews = contents.evaluation.reviews
    assert f"What {reviews.per_day} reviews a day find" in words
    for metric in reviews.metrics:
        line = " ".join(review_cells(metric))
        assert f"{metric.low:.4f} to {metric.high:.4f} {metric.attainable:.4f} {metric.random:.4f}" in line
        title = metric_title(metric.name, reviews.per_day)
        assert re.search(rf"{re.escape(title)} .{{0,120}}?{re.escape(line)}", words), title


def test_the_summaries_of_gate_and_backtest_are_printed_whole(words, contents):
    assert contents.gate.summary in words
    assert contents.backtest.summary in words


def test_the_data_are_named_by_count_time_and_hash(words, contents):
    manifest = contents.manifest
    assert f"{manifest.rows:,} transactions" in words
    assert f"{manifest.base_rate:.2%} fraud" in words
    assert manifest.data_sha256 in words
    assert "month <&> after.csv: 12,000 rows, 12 rejected; 12 bad-number, 7 unlabelled" in words


def test_the_operating_points_are_printed_with_their_counts(words, contents):
    points, review = contents.manifest.points, contents.evaluation.at_review
    assert f"review from {points.review:.4f}" in words
    assert f"decline from {points.decline:.4f}" in words
    assert f"{review.true_positives:,} frauds caught, {review.false_positives:,} false alerts" in words


def test_every_threshold_has_its_line(words, contents):
    for row in contents.evaluation.thresholds:
        assert re.search(rf"{row.threshold:.2f} {row.alerts:,} \S+ \S+ \S+ \S+ \S+ {row.cost:,.0f}", words)


def test_every_day_of_the_backtest_has_its_line(words, contents):
    for period in (*contents.backtest.days, contents.backtest.whole):
        assert " ".join(period_cells(period, len(contents.backtest.levels))) in words


def test_the_comparison_has_both_versions_and_the_difference(words, contents):
    assert len(contents.comparison.metrics) == 6
    for m in contents.comparison.metrics:
        line = f"{m.this:.4f} {m.other:.4f} {m.difference.value:+.4f} {m.difference.low:+.4f} to"
        assert line in words
        assert m.this - m.other == pytest.approx(m.difference.value)


def test_the_drift_of_every_input_has_its_line(words, contents):
    assert {s.name for s in contents.shifts} == set(contents.manifest.names)
    for s in contents.shifts:
        assert f"{s.name} {s.shift.psi:.4f} {s.shift.expected_psi:.4f}" in words


def test_all_pictures_are_in_the_file(pdf, contents):
    pictures = sum(len(page.images) for page in PdfReader(pdf).pages)
    assert pictures == len(contents.figures) - 1  # the threshold table is text


def test_the_same_records_give_the_same_bytes(contents, tmp_path):
    records = replace(contents, figures={})  # matplotlib draws some figures with tiny differences each time
    for name in ("one.pdf", "two.pdf"):
        write_model_report(tmp_path / name, records)
    assert file_sha256(tmp_path / "one.pdf") == file_sha256(tmp_path / "two.pdf")


def test_a_report_without_backtest_champion_or_figures_says_so(contents, tmp_path):
    bare = ReportContents(
        **{
            name: getattr(contents, name)
            for name in (
                "version", "manifest", "status", "file", "rows", "rejected", "unlabelled", "time_range",
                "evaluation", "evaluated_on", "gate", "written_at",
            )
        }
    )  # fmt: skip
    write_model_report(tmp_path / "bare.pdf", bare)
    words = text_of(tmp_path / "bare.pdf")
    assert "No other version was available" in words
    assert "no earlier version to compare with" in words
    assert "This report has no backtest" in words


def test_undefined_metrics_give_their_reason(contents, tmp_path):
    few = evaluate(np.zeros(30), np.full(30, 0.1), points=contents.manifest.points, f2_threshold=0.5)
    manifest = msgspec.structs.replace(contents.manifest, forced=True)
    write_model_report(
        tmp_path / "few.pdf",
        ReportContents(
            version=3, manifest=manifest, status="champion", file="few.csv", rows=30, rejected={}, unlabelled=0,
            time_range=contents.time_range,
            evaluation=few, evaluated_on="30 rows", gate=evaluate_skill(few), written_at="2026-11-23 17:40",
        ),
    )  # fmt: skip
    words = text_of(tmp_path / "few.pdf")
    assert "0 fraud rows with a known label, at least 20 are needed" in words
    assert "failed the skill gate" in words


def test_an_input_that_drifted_has_the_largest_psi(models):
    this, other = models
    history = month()
    drifted = history._replace(columns={**history.columns, "monto": history.columns["monto"] * 1.5})
    assert input_shifts(this.manifest, other.manifest, drifted)[0].name == "monto"
    same = input_shifts(this.manifest, this.manifest, history)
    assert max(s.shift.psi for s in same) < 1e-12
    assert max(abs(s.missing_now - s.missing_before) for s in same) == 0


def test_a_version_compared_with_itself_has_no_difference(models):
    history = month()
    comparison = compare(models[0], models[0], history, last_days(history.event_time_ms), PLAN)
    assert [m.difference for m in comparison.metrics] == [(0, 0, 0)] * 6


def test_too_few_frauds_leave_a_comparison_without_metrics(models):
    history = month()
    unknown = history._replace(fraud=np.where(history.fraud == 1, np.nan, 0.0))
    comparison = compare(*models, unknown, last_days(history.event_time_ms), PLAN)
    assert comparison.metrics == ()
    assert "0 frauds among" in comparison.reason


def test_the_command_reports_the_champion_on_the_real_file(real_csv, real_registry, tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIZ_STATE_DIR", str(real_registry.state_dir))
    path = tmp_path / "report.pdf"
    done = CliRunner().invoke(app, ["report", str(real_csv), "-o", str(path)])
    assert done.exit_code == 0, done.output
    words = text_of(path)
    assert "The model has no proven skill and must not decide" in words
    assert "From 2020-01-24 to 2020-01-30" in words
