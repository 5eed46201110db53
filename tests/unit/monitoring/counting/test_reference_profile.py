"""The reference profile: every row is counted once, and frequent single values get their own bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitoring.counting.reference_profile import (
    count_numbers,
    profile_codes,
    profile_numbers,
    reference_edges,
    reference_profile,
)
from scoring.bundle.manifest import FeatureEncoding

RNG = np.random.default_rng(11)
VALUES = {
    "normal": RNG.normal(size=5000),
    "a third zero": np.where(RNG.random(5000) < 0.33, 0.0, RNG.uniform(0, 1000, 5000)),
    "constant": np.full(300, 7.5),
    "boolean": RNG.integers(0, 2, 1000).astype(float),
    "five scores": RNG.integers(1, 6, 1000).astype(float),
    "some missing": np.where(RNG.random(1000) < 0.2, np.nan, RNG.normal(size=1000)),
    "all missing": np.full(50, np.nan),
    "negative zero": np.array([-0.0, 0.0] * 50),
    "one row": np.array([3.0]),
    "largest floats": np.array([np.finfo(float).max, -np.finfo(float).max] * 10),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_counts_and_missing_together_are_the_rows(values: np.ndarray) -> None:
    profile = profile_numbers("x", values)
    assert sum(profile.counts) + profile.missing == len(values)
    assert len(profile.counts) == len(profile.edges) + 1


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_edges_ascend_strictly_and_without_negative_zero(values: np.ndarray) -> None:
    edges = np.array(reference_edges(values))
    assert (edges[1:] > edges[:-1]).all()
    assert np.isfinite(edges).all()
    assert not np.signbit(edges[edges == 0]).any()


@given(arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6) | st.just(np.nan) | st.just(0.0)))
def test_any_column_is_counted_once(values: np.ndarray) -> None:
    profile = profile_numbers("x", values)
    assert sum(profile.counts) + profile.missing == len(values)


#    value       0           1 … 1000
#    share      30 %          70 %
#    bins   ( … )[0][ then quantiles … )
def test_a_value_that_holds_a_tenth_of_the_rows_is_a_bin_of_its_own() -> None:
    values = np.concatenate([np.zeros(300), np.linspace(1, 1000, 700)])
    profile = profile_numbers("dcto", values)
    place = profile.edges.index(0.0)
    assert profile.edges[place + 1] == np.nextafter(0.0, 1.0)
    assert profile.counts[place + 1] == 300


def test_a_value_just_below_a_tenth_shares_its_bin() -> None:
    values = np.concatenate([np.full(99, 500.5), np.arange(1000.0)[:901]])
    edges = reference_edges(values)
    assert np.nextafter(500.5, np.inf) not in edges


def test_deciles_hold_a_tenth_each() -> None:
    values = RNG.permutation(10_000).astype(float)
    counts = count_numbers(values, reference_edges(values)).tolist()
    assert counts[3:11] == [1000] * 8
    assert (counts[0], counts[-1]) == (9, 11)


def test_later_values_beyond_the_reference_fall_into_the_open_bins() -> None:
    edges = reference_edges(np.arange(1000.0))
    counts = count_numbers(np.array([-1e9, 1e9, np.inf, -np.inf, np.nan]), edges)
    assert (counts[0], counts[-1], counts.sum()) == (2, 2, 4)


def test_categories_are_counted_by_code_with_other_and_missing_at_the_end() -> None:
    profile = profile_codes("ciudad", np.array([0, 0, 2, 3, 4, 4], np.float32), n_levels=3)
    assert profile.counts == (2, 0, 1, 1, 2)
    assert profile.missing == 2


def test_what_is_watched_beside_the_inputs_stands_last_and_missing_numbers_are_counted_before_imputation() -> None:
    encoding = (
        FeatureEncoding(name="monto", kind="number", mean=5.0),
        FeatureEncoding(name="ciudad", kind="category", levels=("a",)),
    )
    columns = {"monto": np.array([1.0, np.nan, 9.0])}
    matrix = np.array([[1, 0], [5, 1], [9, 2]], np.float32)
    profiles = reference_profile(encoding, columns, matrix, np.array([0.1, 0.2]), review=0.2, rejected=1)
    assert [(p.name, p.missing, sum(p.counts)) for p in profiles] == [
        ("monto", 1, 2),
        ("ciudad", 1, 3),
        ("score", 0, 2),
        ("alert", 0, 2),
        ("dead-letter", 0, 4),
    ]
    assert [p.counts for p in profiles[-2:]] == [(1, 1), (3, 1)]
