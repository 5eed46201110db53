"""Simulated transactions at terminals follow the published description, and their files are read as declared."""

import csv
import json
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import ConfigError
from schemas.records import Label
from schemas.time_units import DAY_MS
from scoring.input.cleaning import clean_payloads
from tamiz.batch.file_payloads import file_payloads
from tamiz.simulation import terminal_simulator as simulator
from tamiz.simulation.simulator import attainable_auc
from tamiz.simulation.terminal_files import keyed_labels, keyed_transactions, write_labels, write_transactions
from tamiz.simulation.terminal_simulator import TerminalTraffic, TerminalTransactions, simulate_terminals

TRAFFIC = TerminalTraffic(days=40, cards=2_500, seed=4)
DAYS = TRAFFIC.start_ms // DAY_MS + np.arange(TRAFFIC.days)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("terminal_transactions")


@pytest.fixture(scope="module")
def some() -> TerminalTransactions:
    return simulate_terminals(TRAFFIC)


@pytest.fixture(scope="module")
def few() -> TerminalTransactions:
    return simulate_terminals(TerminalTraffic(days=2, cards=300, seed=5))


def fields(some: TerminalTransactions) -> dict[str, list[float]]:
    return {name: getattr(some, name).tolist() for name in some.__dataclass_fields__}


def test_a_card_is_used_twice_a_day_around_noon(some):
    # A Poisson mean that is uniform up to 4, without the times that a normal draw puts outside the day.
    within = stats.norm.cdf(2.16) - stats.norm.cdf(-2.16)
    assert len(some.labels) == pytest.approx(2 * within * TRAFFIC.cards * TRAFFIC.days, rel=0.05)
    seconds = some.event_time_ms % DAY_MS / 1000
    day = stats.truncnorm(-2.16, 2.16, 43_200, 20_000)
    assert stats.kstest(seconds[:: len(seconds) // 5_000], day.cdf).pvalue > 0.001
    assert (np.diff(some.event_time_ms) >= 0).all()
    assert some.event_time_ms.min() >= TRAFFIC.start_ms


def test_legitimate_amounts_vary_around_the_mean_of_the_card(some):
    fine = ~some.labels
    used = np.bincount(some.cards[fine], minlength=TRAFFIC.cards)
    mean = np.bincount(some.cards[fine], some.amounts[fine], minlength=TRAFFIC.cards) / np.maximum(used, 1)
    often = used > 50
    squares = np.bincount(some.cards[fine], some.amounts[fine] ** 2, minlength=TRAFFIC.cards) / np.maximum(used, 1)
    spread = np.sqrt(squares - mean**2)[often] / mean[often]
    assert spread.mean() == pytest.approx(0.47, abs=0.02)  # half the mean, but for the negative ones that are redrawn
    assert stats.kstest(mean[often], stats.uniform(5, 95).cdf).statistic < 0.05
    assert some.amounts.min() >= 0
    assert (np.round(some.amounts, 2) == some.amounts).all()


def test_a_card_is_used_at_some_terminals_around_it(some):
    terminals = len(set(zip(some.cards.tolist(), some.terminals.tolist(), strict=True))) / len(set(some.cards.tolist()))
    assert terminals < 40  # 5,000 terminals on a square of 100: 39 within a distance of 5
    assert terminals > 15


def test_every_large_amount_is_fraud(some):
    assert some.labels[some.amounts > simulator.MAX_LEGITIMATE_AMOUNT].all()
    large = some.scenarios == simulator.LARGE_AMOUNT
    assert some.amounts[large].min() > simulator.MAX_LEGITIMATE_AMOUNT
    assert 0.0003 < large.mean() < 0.001


def test_a_compromised_terminal_has_nothing_but_fraud_for_28_days(some):
    fraud = some.scenarios == simulator.COMPROMISED_TERMINAL
    assert 0.004 < fraud.mean() < 0.007  # one of 5,000 terminals a day
    days = some.event_time_ms // DAY_MS
    for terminal in np.unique(some.terminals[fraud]).tolist():
        here = some.terminals == terminal
        first, last = days[here & fraud].min(), days[here & fraud].max()
        assert some.labels[here & (days >= first) & (days <= last)].all()
    spans = [np.ptp(days[fraud & (some.terminals == t)]) + 1 for t in np.unique(some.terminals[fraud]).tolist()]
    assert 20 < max(spans) <= 28 + 12  # two draws of one terminal may follow each other


def test_a_third_of_a_stolen_card_is_fraud_of_five_times_the_amount(some):
    fraud = some.scenarios == simulator.STOLEN_CARD
    assert 0.002 < fraud.mean() < 0.004
    days = some.event_time_ms // DAY_MS
    stolen = np.zeros(len(days), dtype=bool)
    for card in np.unique(some.cards[fraud]).tolist():
        its = days[fraud & (some.cards == card)]
        stolen |= (some.cards == card) & (days > its.min()) & (days < its.max())  # fraud begins and ends each span
    inner = stolen & (some.scenarios != simulator.COMPROMISED_TERMINAL)
    assert fraud[inner].mean() == pytest.approx(1 / 3, abs=0.06)
    mean = np.bincount(some.cards[~some.labels], some.amounts[~some.labels], minlength=TRAFFIC.cards)
    mean /= np.maximum(np.bincount(some.cards[~some.labels], minlength=TRAFFIC.cards), 1)
    assert np.mean(some.amounts[fraud] / mean[some.cards[fraud]]) == pytest.approx(5, abs=0.5)


def test_the_fraud_share_does_not_depend_on_the_number_of_cards(some):
    fewer = simulate_terminals(TerminalTraffic(days=90, cards=500))
    assert fewer.labels.mean() == pytest.approx(some.labels.mean(), abs=0.004)


def test_the_oracle_is_calibrated(some):
    assert some.probability.mean() == pytest.approx(some.labels.mean(), rel=0.05)
    unsure = (some.probability > 0.1) & (some.probability < 0.9)
    assert some.labels[unsure].mean() == pytest.approx(some.probability[unsure].mean(), abs=0.1)
    assert roc_auc_score(some.labels, some.probability) == pytest.approx(attainable_auc(some.probability), abs=0.001)


def test_labels_are_reported_within_seven_days(some):
    delay = (some.reported_at_ms - some.event_time_ms) / DAY_MS
    assert stats.kstest(delay[:5_000], stats.uniform(1, 6).cdf).pvalue > 0.001
    assert delay.max() < simulator.MAX_REPORT_DAYS


def test_the_same_seed_gives_the_same_transactions(few):
    assert fields(simulate_terminals(TerminalTraffic(days=2, cards=300, seed=5))) == fields(few)
    assert fields(simulate_terminals(TerminalTraffic(days=2, cards=300, seed=6))) != fields(few)


def test_a_later_start_continues_the_traffic(few):
    second = simulate_terminals(TerminalTraffic(days=1, cards=300, seed=5, start_ms=TRAFFIC.start_ms + DAY_MS))
    later = few.event_time_ms >= TRAFFIC.start_ms + DAY_MS
    assert {name: column[-later.sum() :] for name, column in fields(few).items()} == fields(second)


def test_ids_are_unique_and_name_the_day(few):
    ids = simulator.transaction_ids(few)
    assert len(set(ids)) == len(few.labels)
    assert Counter(name.split("-")[0] for name in ids).keys() == {"20200102", "20200103"}


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_file_is_read_as_the_simulated_values(few, dataset, tmp_path: Path, name):
    write_transactions(few, tmp_path / name)
    cleaned = clean_payloads(dataset, list(file_payloads(tmp_path / name, dataset)), read_labels=True)
    assert cleaned.rejections == []
    assert cleaned.event_time_ms.tolist() == few.event_time_ms.tolist()
    assert cleaned.columns["amount"].tolist() == few.amounts.tolist()
    assert cleaned.columns["terminal"].tolist() == [f"t{terminal}" for terminal in few.terminals.tolist()]
    assert list(cleaned.keys) == [f"c{card}" for card in few.cards.tolist()]
    assert cleaned.labels is not None
    assert cleaned.labels.tolist() == few.labels.tolist()
    assert list(cleaned.transaction_ids) == simulator.transaction_ids(few)


def test_payloads_of_the_topic_have_the_cards_key_and_no_label(few, dataset):
    keys, values = zip(*keyed_transactions(few), strict=True)
    cleaned = clean_payloads(dataset, values)
    assert [key.decode() for key in keys] == list(cleaned.keys)
    assert cleaned.columns["amount"].tolist() == few.amounts.tolist()
    assert not any(b"fraud" in value for value in values)


def test_labels_name_transaction_entities_and_event_time(few):
    place = {name: row for row, name in enumerate(simulator.transaction_ids(few))}
    reported = []
    for key, value in keyed_labels(few):
        record, raw, row = msgspec.json.decode(value, type=Label), json.loads(value), place[key.decode()]
        reported.append(record.reported_at_ms)
        assert (record.transaction_id, record.fraud) == (key.decode(), bool(few.labels[row]))
        assert raw["event_time_ms"] == few.event_time_ms[row]
        assert raw["entities"] == {"card": f"c{few.cards[row]}", "terminal": f"t{few.terminals[row]}"}
    assert reported == sorted(few.reported_at_ms.tolist())


def test_the_file_of_labels_has_one_row_a_transaction(few, tmp_path: Path):
    write_labels(few, tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    place = {name: row for row, name in enumerate(simulator.transaction_ids(few))}
    order = [place[row["transaction_id"]] for row in rows]
    assert sorted(order) == list(range(len(few.labels)))
    assert [row["fraud"] == "true" for row in rows] == few.labels[order].tolist()
    times = np.array([row["reported_at"].rstrip("Z") for row in rows], dtype="datetime64[ms]").astype(np.int64)
    assert times.tolist() == few.reported_at_ms[order].tolist()


@pytest.mark.parametrize(
    "wrong", [{"days": 0}, {"cards": 0}, {"seed": -1}, {"start_ms": 1}], ids=lambda w: next(iter(w))
)
def test_invalid_traffic_is_refused_with_the_setting(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TerminalTraffic(**{"days": 1, **wrong})


def test_a_file_of_another_kind_is_refused(few, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"must end in \.csv"):
        write_transactions(few, tmp_path / "t.parquet")
