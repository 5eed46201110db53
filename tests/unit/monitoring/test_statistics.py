"""PSI, KL, JS and KS against independently computed values and scipy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.spatial.distance import jensenshannon

from monitoring.statistics.divergence import jensen_shannon, kullback_leibler
from monitoring.statistics.ks import ks_p_value, ks_statistic
from monitoring.statistics.psi import (
    bias_corrected_psi,
    classic_psi,
    degrees_of_freedom,
    effective_rows,
    population_stability_index,
    psi_exceeds,
    psi_lower_bound,
)

CASES = Path(__file__).parent.parent.parent.parent.parent / "shared" / "data" / "drift_reference_cases.json"
COUNTS = arrays(np.int64, 6, elements=st.integers(0, 500)).filter(lambda a: a.sum() > 0)


@pytest.fixture(scope="module")
def drift_cases() -> list[dict[str, Any]]:
    """Cases computed independently, with the results of nine libraries; not part of the repository."""
    if not CASES.is_file():
        pytest.skip("the reference cases are not part of the repository")
    return json.loads(CASES.read_text())["cases"]


def samples(case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The case's reference and current values, made again from its recipe."""
    names = {"np": np, "rs": np.random.RandomState(case["seed"])}
    exec(case["recipe"], names)
    return tuple(np.round(np.asarray(names[side], float), 6) + 0.0 for side in ("ref", "cur"))  # type: ignore[return-value]


def binnings(case: dict[str, Any]) -> list[tuple[str, np.ndarray, np.ndarray, dict[str, float]]]:
    """Every binning of a case: its name, both sides' counts with missing last, and the values from scratch."""
    found = []
    for name, block in case["spec"].items():
        # One block of 1524 categories keeps no counts.
        if isinstance(block, dict) and any(key.startswith("ref_counts") for key in block):
            counts = [np.array(next(v for k, v in block.items() if k.startswith(side))) for side in ("ref", "cur")]
            found.append((f"{case['id']} {name}", *counts, block["with_missing_bin"]))
            found.append((f"{case['id']} {name}, present", *(c[:-1] for c in counts), block["non_missing_only"]))
    return found


@pytest.mark.parametrize(
    ("statistic", "key"),
    [
        (population_stability_index, "psi_kt"),
        (classic_psi, "psi_eps1e-4"),
        (kullback_leibler, "kl_ref_cur_nats_kt"),
        (lambda r, c: kullback_leibler(c, r), "kl_cur_ref_nats_kt"),
        (jensen_shannon, "js_div_nats_kt"),
        (lambda r, c: jensen_shannon(r, c, pseudo_count=0.0), "js_div_nats_raw"),
    ],
    ids=["psi", "classic psi", "kl", "kl back", "js", "js without pseudo-counts"],
)
def test_every_reference_case_is_answered_as_from_scratch(statistic, key: str, drift_cases) -> None:
    tried = 0
    for case in drift_cases:
        for name, reference, current, wanted in binnings(case):
            assert float(statistic(reference, current)) == pytest.approx(wanted[key], rel=1e-9, abs=1e-12), name
            tried += 1
    assert tried > 200


def test_mean_and_degrees_of_freedom_under_no_drift_are_those_from_scratch(drift_cases) -> None:
    for case in drift_cases:
        for name, reference, current, wanted in binnings(case):
            degrees, rows = degrees_of_freedom(reference, current), effective_rows(reference, current)
            assert degrees + 1 == wanted["nonempty_bins"], name
            assert degrees / rows == pytest.approx(wanted["psi_null_mean_approx"]), name
            corrected = bias_corrected_psi(reference, current)
            assert corrected == pytest.approx(wanted["psi_kt"] - wanted["psi_null_mean_approx"], abs=1e-12), name


def test_ks_on_codes_that_part_every_value_is_the_exact_statistic(drift_cases) -> None:
    tried = 0
    for case in drift_cases:
        if case["kind"] != "numeric":
            continue
        reference, current = (x[~np.isnan(x)] for x in samples(case))
        edges = np.unique(np.concatenate([reference, current]))
        codes = [np.bincount(np.searchsorted(edges, x), minlength=len(edges)) for x in (reference, current)]
        d = ks_statistic(*codes)
        assert float(d) == pytest.approx(case["spec"]["ks_statistic"], abs=1e-12), case["id"]
        p = ks_p_value(d, effective_rows(*codes))
        assert float(p) == pytest.approx(case["spec"]["ks_p_asymptotic_kolmogorov"], rel=1e-6, abs=1e-12), case["id"]
        tried += 1
    assert tried > 30


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_ks_on_250_frozen_codes_is_never_above_scipys_and_close_below(shift: float) -> None:
    rng = np.random.default_rng(3)
    reference, current = rng.normal(size=20_000), rng.normal(shift, 1, 5_000)
    edges = np.quantile(reference, np.arange(1, 250) / 250)
    codes = [np.bincount(np.searchsorted(edges, x, side="right"), minlength=250) for x in (reference, current)]
    exact = stats.ks_2samp(reference, current, method="asymp")
    d = float(ks_statistic(*codes))
    assert exact.statistic - 0.006 <= d <= exact.statistic
    assert ks_p_value(d, effective_rows(*codes)) >= 0.95 * exact.pvalue


@given(COUNTS, COUNTS)
def test_js_is_the_square_of_scipys_distance(reference: np.ndarray, current: np.ndarray) -> None:
    ours = jensen_shannon(reference, current, pseudo_count=0.0)
    assert float(ours) == pytest.approx(jensenshannon(reference, current) ** 2, abs=1e-9)


@given(COUNTS, COUNTS)
def test_psi_is_both_kl_together_and_symmetric(reference: np.ndarray, current: np.ndarray) -> None:
    psi = population_stability_index(reference, current)
    assert float(psi) == pytest.approx(
        float(kullback_leibler(reference, current) + kullback_leibler(current, reference))
    )
    assert float(psi) == pytest.approx(float(population_stability_index(current, reference)))
    assert psi >= 0


@given(COUNTS)
def test_nothing_lies_between_a_distribution_and_itself(counts: np.ndarray) -> None:
    for statistic in (population_stability_index, classic_psi, kullback_leibler, jensen_shannon, ks_statistic):
        assert float(statistic(counts, counts)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "statistic", [population_stability_index, classic_psi, kullback_leibler, jensen_shannon, ks_statistic]
)
def test_many_histograms_padded_with_empty_bins_are_answered_as_one_by_one(statistic) -> None:
    rng = np.random.default_rng(5)
    reference, current = rng.integers(1, 90, (4, 7)), rng.integers(0, 90, (3, 4, 7))
    padded = statistic(np.pad(reference, ((0, 0), (0, 5))), np.pad(current, ((0, 0), (0, 0), (0, 5))))
    assert padded.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        assert padded[i, j] == pytest.approx(float(statistic(reference[j], current[i, j])))


@pytest.mark.parametrize(
    "statistic", [population_stability_index, classic_psi, kullback_leibler, jensen_shannon, ks_statistic]
)
@pytest.mark.parametrize(
    ("reference", "current"),
    [([1, 2], [1, 2, 3]), ([0, 0], [1, 2]), ([1, 2], [0, 0])],
    ids=["lengths", "none", "nobody"],
)
def test_what_cannot_be_compared_is_refused(statistic, reference: list[int], current: list[int]) -> None:
    with pytest.raises(ValueError, match=r"bins|codes|empty"):
        statistic(np.array(reference), np.array(current))


@pytest.mark.parametrize("n", [300, 5000])
def test_under_no_drift_psi_exceeds_chance_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(8)
    reference, current = (
        rng.multinomial(20_000, np.full(12, 1 / 12), 4000),
        rng.multinomial(n, np.full(12, 1 / 12), 4000),
    )
    psi, rows = population_stability_index(reference, current), effective_rows(reference, current)
    rate = psi_exceeds(psi, 11, rows, alpha=0.05, tolerance=0.0).mean()
    assert 0.03 < rate < 0.07


def test_the_bound_is_where_the_noncentral_quantile_meets_what_was_seen() -> None:
    for psi, degrees, rows, alpha in [(0.1, 15, 1000.0, 1e-6), (0.5, 3, 400.0, 0.01), (0.03, 20, 50_000.0, 2e-8)]:
        bound = float(psi_lower_bound(psi, degrees, rows, alpha))
        assert 0 < bound < psi
        assert stats.ncx2.ppf(1 - alpha, degrees, bound * rows) == pytest.approx(psi * rows, rel=2e-3)
        assert psi_exceeds(psi, degrees, rows, alpha, tolerance=0.99 * bound)
        assert not psi_exceeds(psi, degrees, rows, alpha, tolerance=1.01 * bound)


def test_a_single_bin_can_never_exceed() -> None:
    assert psi_lower_bound(0.0, 0, 1000.0, 0.05) == 0
    assert not psi_exceeds(0.5, 0, 1000.0, 0.05, tolerance=0.0)
