"""The matrix: fixed order, training means, codes for levels seen, unseen and missing."""

import numpy as np
import pytest

from schemas.dataset.declaration import load_dataset
from schemas.errors import ModelIncompatibleError
from scoring.bundle.manifest import FeatureEncoding
from scoring.features import featurize, fit_encoding, level_names
from scoring.input.cleaning import clean_payloads
from tests.helpers.traffic.invalid_payloads import payload

DATASET = load_dataset("card_transactions")


def columns(*rows: bytes) -> dict[str, np.ndarray]:
    cleaned = clean_payloads(DATASET, rows)
    assert cleaned.rejections == []
    return dict(cleaned.columns)


def test_columns_stand_in_the_declared_order() -> None:
    encoding = fit_encoding(DATASET, columns(payload()))
    assert [f.name for f in encoding] == [f.name for f in DATASET.features]
    matrix = featurize(encoding, columns(payload(), payload()))
    assert (matrix.shape, matrix.dtype, matrix.flags.c_contiguous) == ((2, 16), np.float32, True)


def test_a_missing_number_or_boolean_takes_the_training_mean() -> None:
    encoding = fit_encoding(DATASET, columns(payload(dcto="1", is_prime="TRUE"), payload(dcto="2"), payload(dcto="NA")))
    matrix = featurize(encoding, columns(payload(dcto="", is_prime="N/A")))
    place = {f.name: j for j, f in enumerate(encoding)}
    assert matrix[0, place["dcto"]] == 1.5
    assert matrix[0, place["is_prime"]] == np.float32(1 / 3)


def test_levels_are_coded_by_frequency_then_name_with_other_and_missing_behind() -> None:
    cities = ["Merida", "Toluca", "Toluca", "Cancun", "NA"]
    encoding = fit_encoding(DATASET, columns(*(payload(ciudad=c) for c in cities)), max_levels=2, min_rows=1)
    ciudad = next(f for f in encoding if f.name == "ciudad")
    assert level_names(ciudad) == ("Toluca", "Cancun", "OTHER", "MISSING")
    matrix = featurize([ciudad], columns(*(payload(ciudad=c) for c in ["Toluca", "Cancun", "Merida", "Oslo", "--"])))
    assert matrix[:, 0].tolist() == [0, 1, 2, 2, 3]


def test_a_feature_that_is_not_made_is_named() -> None:
    strange = FeatureEncoding(name="velocity_1h", kind="number")
    with pytest.raises(ModelIncompatibleError, match="velocity_1h"):
        featurize([strange], columns(payload()))
