"""Frozen bins: later data does not change them, each value has exactly one bin, and the reference fills each bin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitoring.counting.bins import NOT_COUNTED, FrozenBins, bins_of_profile, number_bins, share_bins
from monitoring.counting.reference_profile import profile_codes, profile_numbers
from monitoring.statistics.psi import population_stability_index
from scoring.bundle.manifest import FeatureEncoding

RNG = np.random.default_rng(21)
REFERENCES = {
    "normal": RNG.normal(size=20_000),
    "a third zero": np.where(RNG.random(5000) < 0.33, 0.0, RNG.uniform(0, 1000, 5000)),
    "constant": np.full(300, 7.5),
    "boolean": RNG.integers(0, 2, 1000).astype(float),
    "heavy tail": RNG.pareto(1.1, 20_000),
    "some missing": np.where(RNG.random(3000) < 0.2, np.nan, RNG.normal(size=3000)),
    "all missing": np.full(60, np.nan),
    "forty rows": RNG.normal(size=40),
}
POOR = {  # bins between mass points, or without a neighbour to join
    "a third zero": ["(-inf, 0)"],
    "constant": ["(-inf, 7.5)", "(7.5, inf)"],
    "boolean": ["(-inf, 0)", "(0, 1)", "(1, inf)"],
    "all missing": ["(-inf, inf)"],
    "forty rows": ["(-inf, inf)"],
}


@pytest.mark.parametrize("case", REFERENCES)
def test_every_reference_row_is_in_one_bin_and_each_bin_expects_fifty(case: str) -> None:
    values = REFERENCES[case]
    bins = number_bins("x", values)
    assert bins.reference.sum() == bins.reference_bins.sum() == len(values)
    assert bins.reference_bins[-1] == np.isnan(values).sum()
    poor = [label for label, n in zip(bins.labels[:-1], bins.reference_bins, strict=False) if n < 50]
    assert poor == POOR.get(case, [])
    assert (np.diff(bins.bin_of_code) >= 0).all()
    assert np.bincount(bins.encode(values), minlength=len(bins.reference)).tolist() == bins.reference.tolist()


def test_normal_values_get_about_250_codes_and_fourteen_bins_with_missing_beside_them() -> None:
    bins = number_bins("x", REFERENCES["normal"])
    assert 245 <= len(bins.reference) <= 265
    # quantiles .001 and .999 cut off 20 events each: too few, they join their neighbours
    assert bins.n_bins == 12 + 1


#   values   0           1 … 1000
#   bins    [0][ … )( … )           zero keeps its own bin among 250 codes too
def test_a_mass_point_is_a_bin_of_its_own() -> None:
    bins = number_bins("dcto", np.concatenate([np.zeros(3000), np.linspace(1, 1000, 7000)]))
    assert "0" in bins.labels
    assert bins.reference_bins[bins.labels.index("0")] == 3000
    assert bins.bin_of_code[bins.encode(np.array([-5.0]))] != bins.labels.index("0")  # a refund is no zero


def test_one_outlier_hides_no_shift() -> None:
    rng = np.random.default_rng(2)
    bins = number_bins("monto", rng.normal(size=5000))
    current = np.append(rng.normal(1, 1, 5000), 1e6)
    counts = np.bincount(bins.bin_of_code[bins.encode(current)], minlength=bins.n_bins)
    assert population_stability_index(bins.reference_bins, counts) > 0.8


def test_a_manifests_profile_gives_the_bins_of_its_own_edges() -> None:
    values = RNG.normal(size=20_000)
    profile = profile_numbers("score", values)
    bins = bins_of_profile(profile, None)
    assert bins.edges.tolist() == list(profile.edges)
    assert len(bins.reference) == len(profile.edges) + 2 > 250
    assert bins.n_bins == 13
    assert bins.labels[-1] == "missing"


def test_levels_that_the_reference_hardly_knows_go_to_other() -> None:
    codes = np.repeat([0, 1, 2, 4], [400, 7, 300, 5])  # three levels, OTHER = 3, MISSING = 4
    encoding = FeatureEncoding(name="ciudad", kind="category", levels=("Bogotá", "Tunja", "Cali"))
    bins = bins_of_profile(profile_codes("ciudad", codes, 3), encoding)
    assert bins.labels == ("Bogotá", "Cali", "other", "missing")
    assert bins.reference_bins.tolist() == [400, 300, 7, 5]


def test_infinite_huge_and_missing_values_have_a_code_too() -> None:
    bins = number_bins("x", REFERENCES["normal"])
    last = len(bins.reference) - 1
    assert bins.encode(np.array([-np.inf, np.inf, 1e308, np.nan])).tolist() == [0, last - 1, last - 1, last]


def frozen() -> FrozenBins:
    levels = FeatureEncoding(name="ciudad", kind="category", levels=tuple("abcd"))
    return FrozenBins(
        [
            number_bins("monto", REFERENCES["heavy tail"]),
            bins_of_profile(profile_codes("ciudad", np.repeat(np.arange(6), [90, 3, 70, 60, 2, 1]), 4), levels),
            share_bins("alert", 900, 100),
        ]
    )


@given(arrays(np.float64, st.integers(0, 50), elements=st.floats(allow_nan=True)), st.randoms())
def test_counting_in_parts_and_adding_up_is_counting_at_once(values: np.ndarray, random) -> None:
    bins = frozen()
    columns = {
        "monto": values,
        "ciudad": np.array([random.randrange(6) for _ in values], np.float32),
        "alert": np.array([random.randrange(2) for _ in values]),
    }
    codes = bins.encode(columns)
    groups = np.array([random.randrange(3) for _ in values], dtype=np.intp)
    parts = bins.count(codes, groups, 3)
    assert parts.sum(axis=0).tolist() == bins.count(codes)[0].tolist()
    binned = bins.counts_by_bin(parts)
    assert binned.shape == (3, 3, bins.n_bins)
    assert binned.sum(axis=(0, 2)).tolist() == [len(values)] * 3
    assert not binned[:, ~bins.bin_mask].any()


def test_a_row_may_have_no_part_in_a_feature() -> None:
    bins = frozen()
    counts = bins.counts_by_bin(bins.count(np.array([[3, 0, 1], [NOT_COUNTED, NOT_COUNTED, 0]])))[0]
    assert counts.sum(axis=-1).tolist() == [1, 1, 2]


def test_binned_references_are_the_features_own() -> None:
    bins = frozen()
    for row, feature in zip(bins.reference, bins.features, strict=True):
        assert row[: feature.n_bins].tolist() == feature.reference_bins.tolist()


def test_other_edges_have_another_digest() -> None:
    assert frozen().digest == frozen().digest
    assert frozen().digest != FrozenBins(frozen().features[:2]).digest
    assert (
        FrozenBins([number_bins("x", np.arange(99.0))]).digest != FrozenBins([number_bins("x", np.arange(98.0))]).digest
    )
