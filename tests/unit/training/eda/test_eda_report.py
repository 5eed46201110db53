"""EDA: findings against known counts and scipy, no signal found in noise, and no markup from the file in the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import TrainingError
from scoring.input.cleaning import clean_columns
from tamiz.main import app
from tests.helpers.traffic.scored_fixtures import card_dataset, month
from training.data.chunk import key_array
from training.data.history import History, read_history
from training.data.time_range import TimeRange
from training.eda.association import correlation, cramers_v, holm, independence_p_value
from training.eda.discretization import discretize
from training.eda.eda_findings import FeatureRates, Findings, compute_findings
from training.eda.eda_report import write_eda_report

OTHER_DECLARATION = """
name = "cheques"
key = "drawer"
label = "bounced"
features = ["town", "weight", "signed", "ink", "day_of_week"]
[event_time]
date = "on"
formats = ["%Y-%m-%d"]
[[fields]]
name = "town"
kind = "category"
[[fields]]
name = "weight"
kind = "number"
[[fields]]
name = "signed"
kind = "boolean"
[[fields]]
name = "ink"
kind = "number"
"""


@pytest.fixture(scope="module")
def real_findings(real_csv: Path) -> Findings:
    return compute_findings(read_history(real_csv, card_dataset()), card_dataset())


@pytest.fixture(scope="module")
def cheques(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, History]:
    """A data set that no code refers to: thirty towns, hostile names, a number that is always missing."""
    path = tmp_path_factory.mktemp("cheques") / "cheques.toml"
    path.write_text(OTHER_DECLARATION)
    dataset = load_dataset(str(path))
    rng = np.random.default_rng(5)
    hostile = ["<script>alert(1)</script>", r"$\frac{$", "$$", "[/nope]", "\x1b[2J\n\u202e", "東京"]
    towns = [*hostile, *(f"town {i}" for i in range(30 - len(hostile)))]
    town = rng.choice(30, 3000, p=np.arange(30, 0, -1) / 465)
    weight = np.where(rng.random(3000) < 0.4, 0.0, rng.exponential(size=3000))
    bounced = rng.random(3000) < np.where(weight == 0, 0.02, 0.15)
    cleaned = clean_columns(
        dataset,
        {
            "drawer": [str(i) for i in range(3000)],
            "on": [f"2021-03-{1 + i % 28:02}" for i in range(3000)],
            "town": [towns[i] for i in town],
            "weight": weight.tolist(),
            "signed": (rng.random(3000) < 0.5).tolist(),
            "ink": [None] * 3000,
            "bounced": bounced.tolist(),
        },
        read_labels=True,
    )
    return dataset, History(
        source="cheques<b>.csv",
        sha256="0" * 64,
        rows=3000,
        rejected={},
        unlabelled=0,
        columns=cleaned.columns,
        event_time_ms=cleaned.event_time_ms,
        fraud=np.asarray(cleaned.labels),
        keys=key_array(cleaned),
        time_range=TimeRange(first_ms=int(cleaned.event_time_ms.min()), last_ms=int(cleaned.event_time_ms.max())),
    )


def feature_rates(found: Findings, feature: str) -> FeatureRates:
    return next(of for of in found.rates if of.feature == feature)


def counts(found: Findings, feature: str) -> dict[str, tuple[int, int]]:
    return {rate.level: (rate.rows, rate.frauds) for rate in feature_rates(found, feature).rates}


def test_the_real_files_counts_are_those_that_are_known(real_findings: Findings) -> None:
    found = real_findings
    assert (found.rows, found.fraud.rows, found.fraud.frauds, found.rejected) == (26_975, 26_975, 810, {})
    assert counts(found, "tipo_tc") == {"Física": (18_903, 579), "Virtual": (8_072, 231)}
    assert [round(rate.rate, 2) for rate in feature_rates(found, "tipo_tc").rates] == [0.03, 0.03]
    assert counts(found, "is_prime") == {"false": (23_416, 710), "true": (3_559, 100)}
    discount = counts(found, "dcto")
    assert discount == {"zero": (18_814, 572), "not zero": (8_161, 238)}
    assert round(discount["not zero"][0] / found.rows, 2) == 0.30
    assert feature_rates(found, "dcto").cut == "zero or not"
    assert feature_rates(found, "cashback").cut == "quarter"
    sentence = "dcto is not zero in 30.25 % (29.71 to 30.80 %) of the transactions: fraud rate 2.92 % (2.57 to 3.30 %)"
    assert any(sentence in summary for summary in found.summaries)
    assert found.constant == {"device_model": "2020"}
    assert sum(rows for rows, _ in counts(found, "genero").values()) == 26_975
    assert counts(found, "genero")["MISSING"][0] == 2_730


def test_cashback_correlates_with_the_amount_and_the_interval_is_narrow(real_findings: Findings) -> None:
    strongest = real_findings.associations[0]
    assert {strongest.a, strongest.b} == {"cashback", "monto"}
    assert (strongest.measure, round(strongest.value, 2)) == ("Pearson's r", 0.81)
    assert 0.80 < strongest.low < strongest.value < strongest.high < 0.83


def test_no_feature_of_the_real_file_is_significant_and_a_sentence_says_so(real_findings: Findings) -> None:
    assert all(of.p_adjusted > 0.5 for of in real_findings.rates)
    assert sum("smallest p-value of 15 tests" in s for s in real_findings.summaries) == 1
    assert not any("The fraud rate differs" in s for s in real_findings.summaries)
    with_fraud = [pair for pair in real_findings.associations if "fraude" in (pair.a, pair.b)]
    assert with_fraud
    assert all(pair.p_adjusted > 0.5 for pair in with_fraud)


def test_a_planted_signal_is_found_and_what_was_not_planted_is_not() -> None:
    found = compute_findings(month(rows=12_000, signal=True), card_dataset())
    significant = {of.feature for of in found.rates if of.p_adjusted < 0.05}
    assert {"monto", "tipo_tc", "hour"} <= significant
    assert significant.isdisjoint({"genero", "ciudad", "status_txn", "day_of_week"})
    assert any(s.startswith("The fraud rate differs by tipo_tc") and "at Virtual" in s for s in found.summaries)
    assert not any("No feature's" in s for s in found.summaries)


def test_another_declaration_needs_no_code(cheques: tuple[Dataset, History]) -> None:
    dataset, history = cheques
    found = compute_findings(history, dataset)
    assert {of.feature: of.cut for of in found.rates} == {
        "town": "category",
        "weight": "zero or not",
        "signed": "boolean",
        "day_of_week": "value",
    }
    assert len(feature_rates(found, "town").rates) == 21
    assert feature_rates(found, "town").rates[-1].level == "OTHER"
    assert found.constant == {"ink": "MISSING"}
    assert found.missing == {"ink": 1.0}
    assert [of.feature for of in found.rates if of.p_adjusted < 0.05] == ["weight"]
    assert all(sum(rate.rows for rate in of.rates) == 3000 for of in found.rates)


class FetchCollector(HTMLParser):
    """Collects the addresses that a browser would fetch, the number of scripts, and the inner page."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0
        self.inner: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.scripts += tag == "script"
        self.inner = given.get("srcdoc", self.inner)
        links = [given.get("src"), given.get("href") if tag == "link" else None]
        self.fetched += [link for link in links if link and not link.startswith("data:")]


def parsed(page: str) -> FetchCollector:
    found = FetchCollector()
    found.feed(page)
    return found


def test_the_report_is_one_file_that_fetches_nothing_and_escapes_names_in_the_data(
    cheques: tuple[Dataset, History], tmp_path: Path
) -> None:
    dataset, history = cheques
    before = {name: value for name, value in matplotlib.rcParams.items() if name != "backend"}
    write_eda_report(tmp_path / "report.html", history, dataset, compute_findings(history, dataset))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert {name: matplotlib.rcParams[name] for name in before} == before
    outer = parsed(page)
    assert outer.inner is not None
    inner = parsed(outer.inner)
    assert outer.fetched == inner.fetched == []
    assert outer.scripts == 0
    assert "<script>alert" not in page + outer.inner
    assert "cheques<b>" not in page
    assert not re.search(r"url\(['\"]?https?:|@import", page)
    assert "Associations" in outer.inner
    assert "&lt;script&gt;alert(1)" in page
    assert "Every column" in page
    assert "\x1b" not in page + outer.inner


def test_a_report_that_cannot_be_written_is_one_line(cheques: tuple[Dataset, History], tmp_path: Path) -> None:
    dataset, history = cheques
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written"):
        write_eda_report(tmp_path / "file" / "report.html", history, dataset, compute_findings(history, dataset))


def test_the_command_writes_the_page_and_prints_the_findings_as_json_or_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declaration, file, page = tmp_path / "cheques.toml", tmp_path / "history.csv", tmp_path / "eda.html"
    declaration.write_text(OTHER_DECLARATION)
    monkeypatch.setenv("TAMIZ_DATASET", str(declaration))
    rows = [f"{i},2021-03-{1 + i % 28:02},{'AB'[i % 2]},{i % 3},{i % 7 == 0}" for i in range(600)]
    file.write_text("\n".join(["drawer,on,town,weight,bounced", *rows]))
    said = json.loads(CliRunner().invoke(app, ["eda", str(file), "-o", str(page), "--json"]).stdout)
    assert said["fraud"]["rows"] == 600
    assert said["summaries"]
    assert page.stat().st_size > 100_000
    shown = CliRunner().invoke(app, ["eda", str(file), "-o", str(page)]).stdout
    assert "Fraud rate by feature" in shown
    assert "eda.html" in shown


@pytest.mark.parametrize("seed", range(3))
def test_a_correlation_and_its_interval_are_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=80)
    b = a * seed / 2 + rng.normal(size=80)
    peer = stats.pearsonr(a, b)
    interval = peer.confidence_interval(0.95)
    ours = correlation(np.append(a, np.nan), np.append(b, 1.0))
    assert ours is not None
    assert ours == pytest.approx((peer.statistic, interval.low, interval.high, peer.pvalue), abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param([1.0, 1, 1, 1, 1], [1.0, 2, 3, 4, 5], id="constant"),
        pytest.param([1.0, np.nan, np.nan, 2, 3], [1.0, 2, 3, 4, 5], id="three rows"),
        pytest.param([np.nan] * 5, [1.0, 2, 3, 4, 5], id="all missing"),
    ],
)
def test_a_correlation_that_is_not_defined_is_none(a: list[float], b: list[float]) -> None:
    assert correlation(np.array(a), np.array(b)) is None


def test_two_equal_columns_even_of_vast_numbers_correlate_fully() -> None:
    vast = np.array([3e38, 2.0, -3e38, 4.0, 5.0])
    found = correlation(vast, vast)
    assert found is not None
    assert found.value == 1.0
    assert found.low <= 1.0


@pytest.mark.parametrize("table", [[[30, 70], [50, 50]], [[20, 30, 40], [35, 25, 30], [9, 9, 9]]])
def test_independence_is_scipys_chi_squared_test_where_that_holds(table: Any) -> None:
    counted = np.array(table)
    assert independence_p_value(counted) == pytest.approx(stats.chi2_contingency(counted, correction=False).pvalue)


@pytest.mark.parametrize("table", [[[40, 1], [30, 6]], [[100, 3], [10, 2]]])
def test_where_few_are_expected_independence_agrees_with_fishers_exact_test(table: Any) -> None:
    counted = np.array(table)
    assert independence_p_value(counted) == pytest.approx(stats.fisher_exact(counted).pvalue, abs=0.02)
    assert independence_p_value(counted.T) == pytest.approx(stats.fisher_exact(counted).pvalue, abs=0.02)


def test_the_interval_of_cramers_v_covers_the_truth_and_zero_when_there_is_none() -> None:
    rng = np.random.default_rng(11)
    unrelated = np.full(6, 1 / 6)
    related = np.array([0.25, 0.15, 0.10, 0.10, 0.15, 0.25])  # 2 x 3; phi squared is .9 / 7
    covered = {"unrelated": 0, "related": 0}
    for _ in range(400):
        for name, shares, truth in (("unrelated", unrelated, 0.0), ("related", related, np.sqrt(0.9 / 7))):
            found = cramers_v(rng.multinomial(500, shares).reshape(2, 3))
            assert found is not None
            covered[name] += found.low <= truth <= found.high + 1e-12
    assert covered["unrelated"] >= 380  # one-sided at zero: 97.5 % of 400 is 390
    assert 364 <= covered["related"] <= 396


def test_cramers_v_of_a_table_with_one_level_is_none() -> None:
    assert cramers_v(np.array([[3, 4], [0, 0]])) is None


def test_holm_keeps_order_and_stays_a_probability() -> None:
    assert holm([0.5, 0.001, 0.9, 0.02]) == pytest.approx([1.0, 0.004, 1.0, 0.06])
    assert holm([]) == []


def test_noise_seldom_becomes_a_finding() -> None:
    """Thirty histories of pure noise: Holm's correction at 0.05 leaves a false positive in about one of twenty."""
    rng = np.random.default_rng(2)
    base = month(rows=3_000, signal=False)
    alarms = 0
    for _ in range(30):
        found = compute_findings(base._replace(fraud=(rng.random(3_000) < 0.03).astype(float)), card_dataset())
        alarms += any(of.p_adjusted < 0.05 for of in found.rates)
    assert alarms <= 5


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param([1.0, 2.0, 2.0, np.nan], ("1", "2", "MISSING"), id="few values"),
        pytest.param([np.nan, np.nan], ("MISSING",), id="all missing"),
        pytest.param([*range(1, 101)], ("to 25", "above 25, to 50", "above 50, to 75", "above 75"), id="quarters"),
        pytest.param([0.0] * 90 + [*range(1, 13)], ("zero", "not zero"), id="mass at zero"),
        pytest.param([7.0] * 80 + [*range(20, 32)], ("to 7", "above 7"), id="mass elsewhere"),
    ],
)
def test_numbers_are_cut_into_levels(values: list[float], names: tuple[str, ...]) -> None:
    levels = discretize(np.array(values, dtype=float), "number")
    assert levels.names == names
    assert set(levels.codes.tolist()) == set(range(len(names)))
