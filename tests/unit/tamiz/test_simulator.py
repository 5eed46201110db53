"""Simulated transactions follow the declared distributions, and their payloads pass the real cleaning."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import ConfigError
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.input.cleaning import CleanedBatch, clean_payloads
from tamiz.batch.file_payloads import file_payloads
from tamiz.simulation import simulator
from tamiz.simulation.drift_injection import (
    ATTACKED_CARDS,
    CARD_TESTING_MS,
    KINDS,
    MIN_MONTO,
    NEW_CATEGORY,
    SIGMA,
    InjectedDrift,
    read_drift,
)
from tamiz.simulation.invalid_payloads import INVALIDATORS
from tamiz.simulation.payload_formats import payloads, write
from tamiz.simulation.simulator import SimulatedTransactions, Traffic, attainable_auc, simulate

OF_HOLDER = ("genero", "ciudad", "linea_tc", "interes_tc", "is_prime")
MIDDLE_MS = Traffic(rows=1).start_ms + 14 * DAY_MS


@pytest.fixture(scope="module")
def card() -> Dataset:
    return load_dataset("card_transactions")


@pytest.fixture(scope="module")
def plain() -> SimulatedTransactions:
    return simulate(Traffic(rows=40_000, seed=11))


def all_payloads(traffic: Traffic) -> list[bytes]:
    return [value for _, values in payloads(traffic, simulate(traffic)) for value in values]


def counts(column: np.ndarray, levels: list[object]) -> list[int]:
    return [sum(v == level for v in column.tolist()) for level in levels]


@pytest.mark.parametrize("field", ["establecimiento", "tipo_tc", "status_txn", "device_os"])
def test_levels_drawn_per_transaction_have_the_declared_shares(plain, field):
    shares = simulator.LEVELS[field]
    seen = counts(plain.columns[field], list(shares))
    assert stats.chisquare(seen, np.array(list(shares.values())) * 40_000).pvalue > 0.001


@pytest.mark.parametrize("field", ["genero", "ciudad"])
def test_levels_drawn_per_card_holder_have_the_declared_shares(plain, field):
    _, first = np.unique(plain.columns["ID_USER"], return_index=True)
    shares = simulator.LEVELS[field]
    seen = counts(plain.columns[field][first], list(shares))
    assert stats.chisquare(seen, np.array(list(shares.values())) * 4_000).pvalue > 0.001


@pytest.mark.parametrize("field", OF_HOLDER)
def test_fields_of_a_card_holder_are_constant(plain, field):
    pairs = set(zip(plain.columns["ID_USER"].tolist(), plain.columns[field].tolist(), strict=True))
    assert len(pairs) == 4_000


def test_amounts_are_uniform_and_determine_discount_and_cashback(plain):
    monto, dcto, cashback = (plain.columns[name] for name in ("monto", "dcto", "cashback"))
    assert stats.kstest(monto, stats.uniform(0, simulator.MAX_MONTO).cdf).pvalue > 0.001
    assert monto.min() >= MIN_MONTO
    shares = np.round(dcto / monto, 5)
    seen = [int((np.abs(shares - d) < 1e-4).sum()) for d in simulator.DISCOUNTS]
    assert stats.chisquare(seen, np.array(simulator.DISCOUNT_SHARES) * 40_000).pvalue > 0.001
    rate = np.array([simulator.CASHBACK[t] for t in plain.columns["tipo_tc"].tolist()])
    np.testing.assert_allclose(cashback, (monto - dcto) * rate, atol=1e-7)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("hour", simulator.HOURS),
        ("device_score", simulator.DEVICE_SCORES),
    ],
)
def test_whole_numbers_are_uniform_over_their_range(plain, field, values):
    column = plain.columns[field]
    seen = [int((column == v).sum()) for v in values]
    assert sum(seen) == 40_000
    assert stats.chisquare(seen).pvalue > 0.001


def test_events_are_in_order_and_uniform_over_the_days(plain):
    days = (plain.event_time_ms - Traffic(rows=1).start_ms) // DAY_MS
    assert (np.diff(plain.event_time_ms) >= 0).all()
    assert stats.chisquare(np.bincount(days, minlength=29)).pvalue > 0.001


def test_transactions_per_card_holder_are_geometric(plain):
    per_user = np.bincount(plain.columns["ID_USER"])
    # Geometric from 1 with mean 10: standard deviation sqrt(10 * 9).
    assert per_user.min() == 1
    assert per_user.std() == pytest.approx(90**0.5, rel=0.1)


def test_without_a_signal_labels_are_random(plain):
    assert stats.binomtest(int(plain.labels.sum()), 40_000, simulator.FRAUD_SHARE).pvalue > 0.001
    assert set(plain.probability) == {simulator.FRAUD_SHARE}


def test_distributions_match_the_real_file(real_csv, card, plain):
    rows = list(file_payloads(real_csv, card))
    real = clean_payloads(card, rows).columns
    assert stats.ks_2samp(real["monto"], plain.columns["monto"]).pvalue > 0.001
    for field in simulator.LEVELS:
        if field in ("genero", "ciudad"):
            continue  # drawn per card holder: rows of one holder are not independent
        levels = list(simulator.LEVELS[field])
        table = [counts(real[field], levels), counts(plain.columns[field], levels)]
        assert sum(table[0]) == len(rows), field
        assert stats.chi2_contingency(table).pvalue > 0.001, field
    rate = np.array([simulator.CASHBACK[t] for t in real["tipo_tc"].tolist()])
    np.testing.assert_allclose(real["cashback"], (real["monto"] - real["dcto"]) * rate, atol=1e-6)


def test_the_signal_keeps_the_fraud_share_and_bounds_the_auc():
    signal = simulate(Traffic(rows=200_000, seed=12, signal=True))
    best = attainable_auc(signal.probability)
    assert signal.probability.mean() == pytest.approx(simulator.FRAUD_SHARE, abs=0.001)
    assert 0.83 < best < 0.86
    assert roc_auc_score(signal.labels, signal.probability) == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize("payload_format", simulator.FORMATS)
def test_the_same_seed_gives_the_same_bytes(payload_format):
    traffic = Traffic(rows=500, seed=5, payload_format=payload_format, invalid_share=0.1)
    assert all_payloads(traffic) == all_payloads(traffic)
    assert all_payloads(traffic) != all_payloads(
        Traffic(rows=500, seed=6, payload_format=payload_format, invalid_share=0.1)
    )


def assert_equal(cleaned: CleanedBatch, simulated: SimulatedTransactions) -> None:
    assert cleaned.rejections == []
    for name in ("monto", "dcto", "cashback", "linea_tc", "interes_tc", "is_prime", "hour", "device_model"):
        np.testing.assert_array_equal(cleaned.columns[name], simulated.columns[name], err_msg=name)
    for name in ("genero", "ciudad", "establecimiento", "tipo_tc", "status_txn", "device_os"):
        assert cleaned.columns[name].tolist() == simulated.columns[name].tolist(), name
    assert cleaned.labels is not None
    np.testing.assert_array_equal(cleaned.labels, simulated.labels)


@pytest.mark.parametrize("payload_format", simulator.FORMATS)
def test_every_format_is_cleaned_to_the_same_values(card, payload_format):
    traffic = Traffic(rows=3_000, seed=7, payload_format=payload_format)
    simulated = simulate(traffic)
    cleaned = clean_payloads(card, all_payloads(traffic), read_labels=True)
    assert_equal(cleaned, simulated)
    if payload_format == "json":
        np.testing.assert_array_equal(cleaned.event_time_ms, simulated.event_time_ms)


@pytest.mark.parametrize("payload_format", ["original", "plain", "mixed"])
def test_a_csv_file_reads_back_as_the_simulated_values(card, tmp_path, payload_format):
    traffic = Traffic(rows=2_000, seed=8, payload_format=payload_format)
    simulated = simulate(traffic)
    write(traffic, simulated, tmp_path / "t.csv")
    assert_equal(clean_payloads(card, list(file_payloads(tmp_path / "t.csv", card)), read_labels=True), simulated)


def test_the_original_format_matches_the_real_file(real_csv, tmp_path):
    traffic = Traffic(rows=2_000, seed=9)
    write(traffic, simulate(traffic), tmp_path / "t.csv")
    real, ours = real_csv.read_bytes(), (tmp_path / "t.csv").read_bytes()
    assert ours[:3] == b"\xef\xbb\xbf"
    assert ours.split(b"\r\n")[0] == real.split(b"\r\n")[0]
    assert ours.count(b"\r\n") == ours.count(b"\n") == 2_001
    for piece in (
        b"F\xc3\x83\xc2\xadsica",
        b"\"{'model': 2020; 'device_score': ",
        b";N/A;",
        b";--;",
        b"'%%'",
        b";2/01/2020;",
    ):
        assert piece in real, piece
        assert piece in ours, piece


def test_a_json_lines_file_holds_one_payload_per_line(card, tmp_path):
    traffic = Traffic(rows=700, seed=10, payload_format="json", invalid_share=0.0)
    write(traffic, simulate(traffic), tmp_path / "t.jsonl")
    assert list(file_payloads(tmp_path / "t.jsonl", card)) == all_payloads(traffic)


@pytest.mark.parametrize("way", INVALIDATORS)
@pytest.mark.parametrize("payload_format", ["original", "plain", "json"])
def test_every_invalid_payload_is_rejected(card, way, payload_format):
    (payload,) = all_payloads(Traffic(rows=1, seed=1, payload_format=payload_format))
    assert len(clean_payloads(card, [INVALIDATORS[way](payload)]).rejections) == 1


def test_the_invalid_share_is_rejected_and_the_rest_unchanged(card):
    whole, some = (
        all_payloads(Traffic(rows=5_000, seed=3, payload_format="mixed", invalid_share=b)) for b in (0.0, 0.05)
    )
    changed = [row for row, (a, b) in enumerate(zip(whole, some, strict=True)) if a != b]
    assert stats.binomtest(len(changed), 5_000, 0.05).pvalue > 0.001
    assert [r.row for r in clean_payloads(card, some).rejections] == changed


def both(kind: str, **named: object) -> tuple[SimulatedTransactions, SimulatedTransactions, np.ndarray]:
    """The same traffic without and with a drift, and a mask of the rows where the drift is active."""
    drift = InjectedDrift(kind=kind, at_ms=MIDDLE_MS, **named)  # type: ignore[arg-type]
    without, with_it = (simulate(Traffic(rows=20_000, seed=4, signal=True, drift=d)) for d in ((), (drift,)))
    return without, with_it, without.event_time_ms >= MIDDLE_MS


@pytest.mark.parametrize("kind", KINDS)
def test_a_drift_changes_nothing_before_its_start(kind):
    features = KINDS[kind].features
    without, with_it, active = both(kind, strength=KINDS[kind].default, feature=features[0] if features else None)
    assert 0.4 < active.mean() < 0.6
    for name, column in without.columns.items():
        assert column[~active].tolist() == with_it.columns[name][~active].tolist(), name
    np.testing.assert_array_equal(without.labels[~active], with_it.labels[~active])
    changed = any(
        without.columns[name][active].tolist() != with_it.columns[name][active].tolist() for name in without.columns
    )
    assert changed or not np.array_equal(without.probability, with_it.probability)


def test_a_mean_shift_moves_the_mean_and_the_derived_amounts():
    without, with_it, active = both("mean-shift", strength=0.5, feature="monto")
    moved = with_it.columns["monto"][active] - without.columns["monto"][active]
    np.testing.assert_allclose(moved, 0.5 * SIGMA["monto"], atol=1e-6)
    assert (with_it.columns["cashback"][active] > without.columns["cashback"][active]).all()


@pytest.mark.parametrize(
    ("kind", "feature", "strength", "share"),
    [
        ("new-category", "establecimiento", 0.2, lambda c: c["establecimiento"] == NEW_CATEGORY),
        ("virtual-share", None, 0.8, lambda c: c["tipo_tc"] == "Virtual"),
        ("attack", None, 0.1, lambda c: np.isin(c["ID_USER"], np.argsort(np.bincount(c["ID_USER"]))[-5:])),
    ],
    ids=["new-category", "virtual-share", "attack"],
)
def test_strength_is_the_share_of_the_drifted_rows(kind, feature, strength, share):
    _, with_it, active = both(kind, strength=strength, feature=feature)
    assert share(with_it.columns)[active].mean() == pytest.approx(strength, abs=0.02)


def test_missing_values_do_not_change_the_true_probability():
    without, with_it, active = both("missing", strength=0.4, feature="dcto")
    assert np.isnan(with_it.columns["dcto"][active]).mean() == pytest.approx(0.4, abs=0.02)
    np.testing.assert_array_equal(without.probability, with_it.probability)


def test_lost_decimals_leave_only_whole_numbers():
    _, with_it, active = both("lost-decimals", strength=1.0, feature="dcto")
    left = with_it.columns["dcto"][active]
    assert set(left[~np.isnan(left)]) == {0.0}
    assert np.isnan(left).mean() == pytest.approx(1 - simulator.DISCOUNT_SHARES[0], abs=0.02)


def test_a_full_concept_drift_reverses_the_signal():
    without, with_it, active = both("concept", strength=1.0)
    assert stats.spearmanr(without.probability[active], with_it.probability[active]).statistic < -0.99


def test_an_attack_has_high_amounts_and_a_high_fraud_probability():
    without, with_it, active = both("attack", strength=0.1)
    attacked = active & (without.probability != with_it.probability)
    assert with_it.probability[attacked].mean() > 5 * simulator.FRAUD_SHARE
    assert with_it.columns["monto"][attacked].min() >= 800


def test_card_testing_is_a_burst_of_few_cards_with_small_amounts_before_large_ones():
    at_ms = MIDDLE_MS + 10 * HOUR_MS
    drift = InjectedDrift(kind="card-testing", at_ms=at_ms, strength=0.8)
    without, with_it = (simulate(Traffic(rows=20_000, seed=4, signal=True, drift=d)) for d in ((), (drift,)))
    tested = np.flatnonzero(without.columns["monto"] != with_it.columns["monto"])
    since_ms = with_it.event_time_ms[tested] - at_ms
    assert 0 <= since_ms.min() < since_ms.max() < CARD_TESTING_MS
    assert len(set(with_it.columns["ID_USER"][tested].tolist())) == ATTACKED_CARDS
    amounts = with_it.columns["monto"][tested]
    buys = since_ms >= CARD_TESTING_MS / 2
    assert 0 < amounts[~buys].max() <= 100 < 800 <= amounts[buys].min()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean-shift", "expected KIND"),
        ("earthquake@50%", "unknown kind"),
        ("mean-shift:genero@50%", "'genero', expected one of monto"),
        ("attack:monto@50%", "expected none"),
        ("missing*1.5@50%", r"must lie in \[0, 1\]"),
        ("missing*x@50%", "not a number"),
        ("missing@soon", "neither an ISO date"),
    ],
)
def test_an_invalid_drift_is_refused_with_the_reason(text, message):
    with pytest.raises(ConfigError, match=message):
        read_drift(text, start_ms=0, days=10)


def test_a_drift_is_parsed_from_its_text():
    drift = read_drift("missing:ciudad*0.25@2020-01-15T12:00", start_ms=0, days=10)
    assert drift == InjectedDrift(kind="missing", at_ms=1_579_089_600_000, strength=0.25, feature="ciudad")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"payload_format": "klingon"},
        {"invalid_share": 2.0},
        {"start_ms": 1},
        {"seed": -1},
        {"drift": (InjectedDrift(kind="concept", at_ms=0, strength=1),)},
    ],
    ids=lambda w: next(iter(w)),
)
def test_invalid_traffic_is_refused_with_the_setting(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong)).removesuffix("_ms")):
        Traffic(**{"rows": 10, **wrong})


def test_a_csv_file_holds_neither_json_nor_invalid_payloads(tmp_path):
    for traffic in (Traffic(rows=1, payload_format="json"), Traffic(rows=1, invalid_share=1.0)):
        with pytest.raises(ConfigError, match=r"name the file \.jsonl"):
            write(traffic, simulate(traffic), tmp_path / "t.csv")
