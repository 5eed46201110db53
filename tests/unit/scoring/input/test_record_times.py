"""An event cannot have happened long after its record was written."""

from collections.abc import Sequence

import pytest

from schemas.dataset.declaration import load_dataset
from schemas.time_units import HOUR_MS
from scoring.input.cleaning import CleanedBatch, clean_payloads
from scoring.input.record_times import MIN_RECORD_TIME_MS, NO_TIMESTAMP, RecordTimes
from tests.helpers.traffic.invalid_payloads import payload

DATASET = load_dataset("card_transactions")
WRITTEN_MS = 1_767_268_800_000  # 2026-01-01 12:00 UTC


def cleaned(dates: Sequence[str], written_ms: Sequence[int], max_ahead_ms: int = HOUR_MS) -> CleanedBatch:
    values = [payload(fecha=date, hora=...) for date in dates]
    return clean_payloads(DATASET, values, record_times=RecordTimes(written_ms, max_ahead_ms))


@pytest.mark.parametrize(
    ("date", "written_ms", "refused"),
    [
        pytest.param("2026-01-01T12:59:59Z", WRITTEN_MS, False, id="a clock an hour fast"),
        pytest.param("2026-01-01T13:00:01Z", WRITTEN_MS, True, id="more than an hour"),
        pytest.param("2099-01-01T00:00:00Z", WRITTEN_MS, True, id="a century"),
        pytest.param("2020-01-05T00:00:00Z", WRITTEN_MS, False, id="a replay of an old history"),
        pytest.param("1970-01-01T00:00:00Z", WRITTEN_MS, False, id="the epoch"),
        pytest.param("2099-01-01T00:00:00Z", NO_TIMESTAMP, False, id="no record time"),
        pytest.param("2026-01-01T12:00:00Z", 0, False, id="a record time of zero"),
        pytest.param("2026-01-01T12:00:00Z", WRITTEN_MS // 1000, False, id="a record time in seconds"),
        pytest.param("2026-01-01T12:00:00Z", MIN_RECORD_TIME_MS, True, id="a record older than its event"),
        pytest.param("2099-01-01T00:00:00Z", 4_070_908_800_000, False, id="both of 2099"),
        pytest.param("2099-01-01T00:00:00Z", 2**63 - 1, False, id="the last record time there is"),
        pytest.param("2099-01-01T00:00:00Z", -(2**63), False, id="the first record time there is"),
    ],
)
def test_an_event_is_refused_only_where_its_records_time_refutes_it(date: str, written_ms: int, refused: bool) -> None:
    codes = [r.code for r in cleaned([date], [written_ms]).rejections]
    assert codes == (["from-the-future"] if refused else [])


def test_it_names_field_value_and_remedy_and_touches_no_other_row() -> None:
    found = cleaned(
        ["2026-01-01T12:00:00Z", "2099-01-01T00:00:00Z", "not a date", "2026-01-01T11:00:00Z"], [WRITTEN_MS] * 4
    )
    assert found.rows.tolist() == [0, 3]
    future, broken = found.rejections
    assert (future.row, future.field, future.value) == (1, "fecha", "2099-01-01T00:00:00Z")
    assert "60 min (max_event_time_ahead_minutes)" in future.expected
    assert "2026-01-01T12:00:00Z" in future.expected
    assert "then redrive" in future.expected
    assert (broken.row, broken.code) == (2, "not-a-date")


def test_the_times_are_those_of_the_payloads_that_could_be_decoded() -> None:
    values = [
        b"{",
        payload(fecha="2026-01-01T14:00:00Z", hora=...),
        None,
        payload(fecha="2026-01-01T14:00:00Z", hora=...),
    ]
    times = RecordTimes([0, WRITTEN_MS, 0, WRITTEN_MS + 2 * HOUR_MS], HOUR_MS)
    assert clean_payloads(DATASET, values, record_times=times).rows.tolist() == [3]


def test_a_row_of_a_file_has_no_record_time_and_may_have_any_date() -> None:
    assert clean_payloads(DATASET, [payload(fecha="2099-01-01T00:00:00Z", hora=...)]).rejections == []
