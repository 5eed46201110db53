"""Cleaning: the real file's counts, equivalent spellings, rejections and their codes, independence of rows."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset.declaration import load_dataset
from scoring.features import featurize, fit_encoding
from scoring.input.cleaning import CleanedBatch, clean_columns, clean_payloads, is_missing
from tests.helpers.traffic.invalid_payloads import EQUIVALENT_PAYLOADS, INVALID_PAYLOADS, VALID_FIELDS, payload

DATASET = load_dataset("card_transactions")
COUNTS = {"genero": 2730, "establecimiento": 10119, "ciudad": 11678}


@pytest.fixture(scope="module")
def real_rows(real_csv: Path) -> list[dict[str, str]]:
    with real_csv.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))


@pytest.fixture(scope="module")
def real(real_rows: list[dict[str, str]]) -> CleanedBatch:
    return clean_payloads(DATASET, [json.dumps(row).encode() for row in real_rows], read_labels=True)


def same(a: CleanedBatch, b: CleanedBatch) -> bool:
    """Bit for bit."""
    return (
        a.event_time_ms.tobytes() == b.event_time_ms.tobytes()
        and a.transaction_ids == b.transaction_ids
        and set(a.columns) == set(b.columns)
        and all(
            left.tolist() == b.columns[name].tolist()
            if left.dtype == object
            else left.tobytes() == b.columns[name].tobytes()
            for name, left in a.columns.items()
        )
    )


def test_every_real_row_is_accepted(real: CleanedBatch) -> None:
    assert (real.n, len(real.rows), real.rejections) == (26_975, 26_975, [])


def test_the_real_columns_have_the_counts_of_the_file(real: CleanedBatch) -> None:
    column = {name: Counter(values.tolist()) for name, values in real.columns.items() if values.dtype == object}
    assert {name: column[name][None] for name in COUNTS} == COUNTS
    assert column["tipo_tc"] == {"Física": 18_903, "Virtual": 8_072}
    assert column["device_os"] == {"WEB": 6_766, "ANDROID": 6_686, None: 6_808 + 6_715}
    assert int((real.columns["dcto"] == 0).sum()) == 18_814
    assert [name for name, values in real.columns.items() if values.dtype != object and is_missing(values).any()] == []
    assert real.labels is not None
    assert real.labels.sum() == 579 + 231


def test_the_file_and_the_topic_give_the_same_columns_and_features_bit_for_bit(
    real: CleanedBatch, real_rows: list[dict[str, str]]
) -> None:
    from_file = clean_columns(DATASET, {name: [row[name] for row in real_rows] for name in real_rows[0]})
    assert same(from_file, real)
    encoding = fit_encoding(DATASET, from_file.columns)
    assert featurize(encoding, from_file.columns).tobytes() == featurize(encoding, real.columns).tobytes()


def test_a_real_row_is_read_as_people_read_it() -> None:
    cleaned = clean_payloads(DATASET, [payload()])
    seen = {name: values.tolist()[0] for name, values in cleaned.columns.items()}
    assert seen == {
        "genero": "F",
        "monto": 608.3456335,
        "device_model": 2020.0,
        "device_score": 3.0,
        "device_os": "ANDROID",
        "establecimiento": "Super",
        "ciudad": "Merida",
        "tipo_tc": "Física",
        "linea_tc": 71000.0,
        "interes_tc": 51.0,
        "status_txn": "Aceptada",
        "is_prime": 0.0,
        "dcto": 60.83456335,
        "cashback": 5.475110702,
        "hour": 20.0,
        "day_of_week": 6.0,  # 5 January 2020 was a Sunday
    }
    assert cleaned.event_time_ms.tolist() == [1578254400000]


@pytest.mark.parametrize("name", EQUIVALENT_PAYLOADS)
def test_a_sibling_spelling_gives_the_same_columns(name: str) -> None:
    cleaned = clean_payloads(DATASET, [EQUIVALENT_PAYLOADS[name]])
    assert cleaned.rejections == []
    assert same(cleaned, clean_payloads(DATASET, [payload()]))


@pytest.mark.parametrize("name", INVALID_PAYLOADS)
def test_a_broken_payload_is_rejected_with_code_field_value_and_remedy(name: str) -> None:
    broken = INVALID_PAYLOADS[name]
    (rejection,) = clean_payloads(DATASET, [broken.payload]).rejections
    assert (rejection.row, rejection.code, rejection.field) == (0, broken.code, broken.field)
    assert len(rejection.value) <= 100
    assert rejection.expected


def test_broken_payloads_change_nothing_for_the_good_ones_around_them() -> None:
    good = [payload(monto=str(i)) for i in range(len(INVALID_PAYLOADS) + 1)]
    mixed: list[bytes | None] = [good[0]]
    for broken, next_good in zip(INVALID_PAYLOADS.values(), good[1:], strict=True):
        mixed += [broken.payload, next_good]
    cleaned = clean_payloads(DATASET, mixed)
    assert cleaned.rows.tolist() == list(range(0, len(mixed), 2))
    assert [r.row for r in cleaned.rejections] == list(range(1, len(mixed), 2))
    assert same(cleaned, clean_payloads(DATASET, good))


@pytest.mark.parametrize("field", ["genero", "dispositivo", "ciudad", "linea_tc", "is_prime", "dcto", "cashback"])
@pytest.mark.parametrize("spelling", [..., None, "", "NA", "N/A", "--"])
def test_an_optional_field_may_be_missing_in_every_spelling(field: str, spelling: Any) -> None:
    cleaned = clean_payloads(DATASET, [payload(**{field: spelling})])
    names = [e.name for f in DATASET.fields if f.name == field for e in f.entries] or [field]
    assert cleaned.rejections == []
    assert [bool(is_missing(cleaned.columns[name])[0]) for name in names] == [True] * len(names)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.one_of(
    st.binary(max_size=200),
    st.none(),
    st.dictionaries(st.sampled_from([*VALID_FIELDS, "transaction_id"]), JSON).map(lambda d: json.dumps(d).encode()),
    st.dictionaries(st.sampled_from(list(VALID_FIELDS)), JSON, max_size=2).map(
        lambda d: json.dumps(VALID_FIELDS | d).encode()
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ROWS, max_size=8))
def test_whatever_comes_every_row_is_accepted_or_rejected_once(rows: list[bytes | None]) -> None:
    cleaned = clean_payloads(DATASET, rows)
    assert sorted([*cleaned.rows.tolist(), *(r.row for r in cleaned.rejections)]) == list(range(len(rows)))
    assert same(cleaned, clean_payloads(DATASET, [rows[i] for i in cleaned.rows.tolist()]))
    assert {len(values) for values in cleaned.columns.values()} == {len(cleaned.rows)}
    assert all(np.isfinite(v[~np.isnan(v)]).all() for v in cleaned.columns.values() if v.dtype != object)


def test_a_payload_over_the_limit_is_rejected_before_it_is_parsed() -> None:
    (rejection,) = clean_payloads(DATASET, [payload()], max_payload_bytes=100).rejections
    assert (rejection.code, rejection.expected) == ("too-large", "at most 100 bytes")
