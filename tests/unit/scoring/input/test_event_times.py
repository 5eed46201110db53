"""Event times: what is read as declared, to which instant, and what is rejected with which code."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from schemas.dataset.declaration import Dataset
from scoring.input.cleaning import clean_columns, clean_payloads
from scoring.input.record_times import RecordTimes
from tests.helpers.reference_times import Case, read_times, times_dataset

MADRID = {"zone": "Europe/Madrid"}
MEXICO = {"zone": "America/Mexico_City"}
NEW_YORK = {"zone": "America/New_York"}
DATES, TIMES = ("%d/%m/%Y",), ("%d/%m/%Y %H:%M",)
BOTH = (*TIMES, *DATES)


def read(dataset: Dataset, value: Any, hour: Any = None) -> str:
    """The instant in UTC as ISO 8601, without trailing zeros of the time; or the code of the rejection."""
    (found,) = read_times(dataset, [Case(value, hour)])
    return found if isinstance(found, str) else str(np.datetime64(found, "ms")).replace(":00.000", "")


@pytest.mark.parametrize(
    ("formats", "options", "value", "expected"),
    [
        # An offset in the value counts, also on a date.
        (DATES, {}, "2020-01-05+02:00", "2020-01-04T22:00"),
        (DATES, {}, "2020-01-05-0500", "2020-01-05T05:00"),
        (DATES, MADRID, "2020-01-05Z", "2020-01-05T00:00"),
        (DATES, MADRID, "2020-01-05T10:00:00-06:00", "2020-01-05T16:00"),
        (DATES, MADRID, "2020-01-05t10:00:00z", "2020-01-05T10:00"),
        (("%d/%m/%Y %H:%M:%S %z",), {}, "05/01/2020 10:00:00 +0200", "2020-01-05T08:00"),
        (("%d/%m/%Y %H:%M:%S %z",), {}, "05/01/2020 10:00:00 -0500", "2020-01-05T15:00"),
        (("%d/%m/%Y%z",), MADRID, "05/01/2020+02:00", "2020-01-04T22:00"),
        (("%d/%m/%Y %H:%M %Z",), MADRID, "05/01/2020 10:00 UTC", "2020-01-05T10:00"),
        (("%d/%m/%Y %H:%M %Z",), MADRID, "05/01/2020 10:00 CET", "not-a-date"),
        # A zone that the format itself ends with.
        (("%Y-%m-%dT%H:%M:%SZ",), MEXICO, "2020-01-05T10:00:00Z", "2020-01-05T10:00"),
        (("%d/%m/%Y %H:%M UTC",), MEXICO, "05/01/2020 10:00 UTC", "2020-01-05T10:00"),
        (("%d/%m/%Y %H:%M-05:00",), MEXICO, "05/01/2020 10:00-05:00", "2020-01-05T15:00"),
        # Else the zone of the data set.
        (DATES, MADRID, "2020-07-05 10:00", "2020-07-05T08:00"),
        (DATES, MADRID, "05/01/2020", "2020-01-04T23:00"),
        (TIMES, MEXICO, "05/01/2020 10:00", "2020-01-05T16:00"),
        # The separator of date and time is T or a space.
        (DATES, {}, "2020-01-05_10:00", "not-a-date"),
        (DATES, {}, "2020-01-05x10", "not-a-date"),
        (DATES, {}, "2020-01-05  10:00", "not-a-date"),
        (DATES, {}, "2020-01-05-10", "not-a-date"),
        (DATES, {}, "2020-01-05 10", "2020-01-05T10:00"),
        (DATES, {}, "20200105T1430", "2020-01-05T14:30"),
        (DATES, {}, "2020-01-05T14:30:15,5", "2020-01-05T14:30:15.500"),
        (DATES, {}, "2020-01-05T24:00", "not-a-date"),
        (DATES, {}, "2020-01-05T10:00+99:00", "not-a-date"),
        (DATES, {}, "2020-W01-7", "2020-01-05T00:00"),
        (DATES, {}, "2020-01", "not-a-date"),
        (DATES, {}, "٢٠٢٠-01-05", "not-a-date"),
        # Stricter than strptime: no digit changes its place, a weekday is that of the date, no zone is dropped.
        (("%Y%m%d",), {}, "20200105", "2020-01-05T00:00"),
        (("%Y%m%d",), {}, "2020115", "not-a-date"),
        (("%a %d/%m/%Y",), {}, "Sun 05/01/2020", "2020-01-05T00:00"),
        (("%a %d/%m/%Y",), {}, "Mon 05/01/2020", "not-a-date"),
        (("%d/%m/%Y %I:%M %p",), {}, "5/1/2020 02:30 p. m.", "2020-01-05T14:30"),
        (("%d/%m/%Y %I:%M %p",), {}, "5/1/2020 12:30\u202fAM", "2020-01-05T00:30"),
        (("%d/%m/%Y %I:%M %p",), {}, "5/1/2020 14:30 PM", "not-a-date"),
        (("%d %b %y",), {}, "5 jan 20", "2020-01-05T00:00"),
        (("%Y/%j",), {}, "2019/366", "not-a-date"),
        (("%Y年%m月%d日",), {}, "2020年1月5日", "2020-01-05T00:00"),
        # A declared format that contradicts ISO 8601 counts alone.
        (("%Y-%d-%m",), {}, "2020-05-01", "2020-01-05T00:00"),
        (("%Y-%d-%m",), {}, "2020-01-25", "not-a-date"),
        # Missing, and years that are none.
        (DATES, {}, "", "missing-field"),
        (DATES, {}, " NA ", "missing-field"),
        (DATES, {}, None, "missing-field"),
        (DATES, {}, float("nan"), "missing-field"),
        (DATES, {}, "31/12/1969", "out-of-range"),
        (DATES, {}, "01/01/2200", "out-of-range"),
        (DATES, MADRID, "01/01/1970", "out-of-range"),
        (DATES, {}, "x" * 300, "too-long"),
        (DATES, {}, "1" * 150, "not-a-date"),
    ],
)
def test_a_text_is_an_instant_or_rejected(formats: Any, options: Any, value: Any, expected: str) -> None:
    assert read(times_dataset(*formats, **options), value) == expected


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("epoch_s", "1578218400", "2020-01-05T10:00"),
        ("epoch_s", 1578218400, "2020-01-05T10:00"),
        ("epoch_s", 1578218400.25, "2020-01-05T10:00:00.250"),
        ("epoch_s", " 1578218400.25 ", "2020-01-05T10:00:00.250"),
        ("epoch_s", "1578218400,25", "2020-01-05T10:00:00.250"),
        ("epoch_s", Decimal("1578218400.25"), "2020-01-05T10:00:00.250"),
        ("epoch_s", "1578218400000", "out-of-range"),
        ("epoch_ms", "1578218400000", "2020-01-05T10:00"),
        ("epoch_ms", 1578218400000.0, "2020-01-05T10:00"),
        ("epoch_ms", "1578218400", "out-of-range"),
        ("epoch_us", "1578218400000000", "2020-01-05T10:00"),
        ("epoch_us", 1578218400000000, "2020-01-05T10:00"),
        ("epoch_us", 1578218400000, "out-of-range"),
        ("excel", "43835.5", "2020-01-05T12:00"),
        ("excel", 43835.5, "2020-01-05T12:00"),
        ("excel", "43835", "2020-01-05T00:00"),
        ("excel", "43835,6041666667", "2020-01-05T14:30"),
        ("excel", "1578218400", "out-of-range"),
        # A number with an exponent has lost its digits; a grouped one is no number of seconds.
        ("epoch_s", "1.57822E+09", "not-a-date"),
        ("epoch_s", "1,578,218,400", "not-a-date"),
        ("epoch_s", "20200105", "out-of-range"),
        ("epoch_s", -5, "out-of-range"),
        ("epoch_s", float("inf"), "not-a-date"),
        ("epoch_s", float("nan"), "missing-field"),
        ("epoch_s", 10**4_000, "too-long"),
        ("epoch_s", True, "not-a-date"),
        # ISO 8601 is always read.
        ("epoch_s", "2020-01-05T10:00:00Z", "2020-01-05T10:00"),
        ("excel", date(2020, 1, 5), "2020-01-05T00:00"),
    ],
)
def test_a_declared_number_is_an_instant_or_rejected(unit: str, value: Any, expected: str) -> None:
    assert read(times_dataset(unit), value) == expected


def test_an_epoch_is_in_utc_and_an_excel_serial_in_the_zone_of_the_data_set() -> None:
    assert read(times_dataset("epoch_s", **MADRID), "1578218400") == "2020-01-05T10:00"
    assert read(times_dataset("excel", **MADRID), "43835.5") == "2020-01-05T11:00"


@pytest.mark.parametrize(
    ("declared", "code"), [("epoch_s", "out-of-range"), ("excel", "out-of-range"), ("%d/%m/%Y", "not-a-date")]
)
def test_the_remedy_for_a_number_of_another_unit_names_that_unit(declared: str, code: str) -> None:
    columns = {"who": ["1"], "when": ["1578218400000"]}
    (rejection,) = clean_columns(times_dataset(declared), columns).rejections
    assert (rejection.code, rejection.field, rejection.value) == (code, "when", "1578218400000")
    assert "declare 'epoch_ms' among the formats if that is the unit" in rejection.expected


@pytest.mark.parametrize(
    ("formats", "value", "expected"),
    [
        (DATES, date(2020, 1, 5), "2020-01-05T00:00"),
        (DATES, datetime(2020, 1, 5, 10), "2020-01-05T10:00"),
        (DATES, datetime(2020, 1, 5, 10, tzinfo=UTC), "2020-01-05T10:00"),
        (DATES, datetime(2020, 1, 5, 10, tzinfo=timezone(timedelta(hours=2))), "2020-01-05T08:00"),
        (("%Y-%d-%m",), date(2020, 1, 5), "2020-01-05T00:00"),
        (("%Y%m%d",), 20200105, "2020-01-05T00:00"),
        (("%Y%m%d",), 20200105.0, "2020-01-05T00:00"),
        (("%Y%m%d",), Decimal(20200105), "2020-01-05T00:00"),
        (("%Y%m%d",), "20200105.0", "2020-01-05T00:00"),
        (("%Y%m%d",), b"20200105", "2020-01-05T00:00"),
        (("%Y%m%d",), 20200105.5, "not-a-date"),
        (("%Y%m%d",), True, "not-a-date"),
        (("%Y%m%d",), float("inf"), "not-a-date"),
        (("%Y%m%d",), ["20200105"], "wrong-type"),
        (("%Y%m%d",), {"year": 2020}, "wrong-type"),
        (("%Y%m%d",), b"\xff", "wrong-type"),
        (DATES, 1578218400, "not-a-date"),
        (DATES, date(1969, 12, 31), "out-of-range"),
    ],
)
def test_a_typed_value_is_read_as_its_text(formats: Any, value: Any, expected: str) -> None:
    assert read(times_dataset(*formats), value) == expected


#  hour field      missing             14               13              0
#  date            missing-field       + 14 h           + 13 h          + 0 h
#  14:30           14:30               14:30            contradiction   contradiction
#  midnight        midnight            + 14 h           + 13 h          midnight
@pytest.mark.parametrize(
    ("value", "hour", "expected"),
    [
        ("05/01/2020", "14", "2020-01-05T14:00"),
        ("05/01/2020", None, "missing-field"),
        ("05/01/2020", "NA", "missing-field"),
        (date(2020, 1, 5), 14, "2020-01-05T14:00"),
        ("05/01/2020 14:30", "14", "2020-01-05T14:30"),
        ("05/01/2020 14:30", None, "2020-01-05T14:30"),
        ("05/01/2020 14:30", "13", "contradictory-time"),
        ("05/01/2020 14:30", "0", "contradictory-time"),
        ("2020-01-05 14", "14", "2020-01-05T14:00"),
        ("2020-01-05 14", "15", "contradictory-time"),
        (datetime(2020, 1, 5, 14, 30), 14, "2020-01-05T14:30"),
        (datetime(2020, 1, 5, 14, 30), 13, "contradictory-time"),
        ("05/01/2020 00:00", "14", "2020-01-05T14:00"),
        ("2020-01-05T00:00:00", "14", "2020-01-05T14:00"),
        (datetime(2020, 1, 5), 14, "2020-01-05T14:00"),
        (datetime(2020, 1, 5), None, "2020-01-05T00:00"),
        ("05/01/2020 00:30", "14", "contradictory-time"),
        # The hour is that of the value's own clock.
        ("2020-01-05+02:00", "20", "2020-01-05T18:00"),
        ("2020-01-05-05:00", "20", "2020-01-06T01:00"),
        ("2020-01-05T20:15+02:00", "20", "2020-01-05T18:15"),
        ("2020-01-05T20:15+02:00", "18", "contradictory-time"),
        ("2020-01-05T00:00+02:00", "20", "2020-01-05T18:00"),
        # An hour that is no hour rejects its row, also beside a time of day.
        ("05/01/2020 14:30", "24", "out-of-range"),
        ("05/01/2020 14:30", "noon", "not-a-number"),
        ("05/01/2020", "7.5", "out-of-range"),
        ("2199-12-31-05:00", "23", "out-of-range"),
    ],
)
def test_the_hour_field_counts_where_the_value_has_no_time_of_day(value: Any, hour: Any, expected: str) -> None:
    assert read(times_dataset(*BOTH, hour="h"), value, hour) == expected


@pytest.mark.parametrize(
    ("value", "hour", "expected"), [("43835", 14, "2020-01-05T14:00"), (43835.5, 14, "contradictory-time")]
)
def test_a_whole_excel_serial_is_a_date_and_a_fractional_one_a_time(value: Any, hour: Any, expected: str) -> None:
    assert read(times_dataset("excel", hour="h"), value, hour) == expected


#  Madrid, 29 March 2020        02:00 ........ 03:00        do not exist
#  Madrid, 25 October 2020      02:00 ........ 03:00        occur twice, at +02:00 and then at +01:00
@pytest.mark.parametrize(
    ("options", "value", "expected"),
    [
        (MADRID, "2020-03-29 01:59:59", "2020-03-29T00:59:59.000"),
        (MADRID, "2020-03-29 02:00", "nonexistent-time"),
        (MADRID, "2020-03-29 02:59", "nonexistent-time"),
        (MADRID, "2020-03-29 03:00", "2020-03-29T01:00"),
        (MADRID, "2020-10-25 01:59", "2020-10-24T23:59"),
        (MADRID, "2020-10-25 02:30", "ambiguous-time"),
        (MADRID | {"repeated_hour": "earlier"}, "2020-10-25 02:30", "2020-10-25T00:30"),
        (MADRID | {"repeated_hour": "later"}, "2020-10-25 02:30", "2020-10-25T01:30"),
        (MADRID, "2020-10-25 03:00", "2020-10-25T02:00"),
        (MADRID, "2020-03-29 02:30+01:00", "2020-03-29T01:30"),
        (MADRID, "2020-10-25 02:30+01:00", "2020-10-25T01:30"),
        (MADRID, datetime(2020, 3, 29, 2, 30), "nonexistent-time"),
        # Mexico changed its clocks until 2022.
        (MEXICO, "2022-04-03 02:30", "nonexistent-time"),
        (MEXICO, "2022-10-30 01:30", "ambiguous-time"),
        (MEXICO | {"repeated_hour": "earlier"}, "2022-10-30 01:30", "2022-10-30T06:30"),
        (MEXICO | {"repeated_hour": "later"}, "2022-10-30 01:30", "2022-10-30T07:30"),
        (MEXICO, "2022-07-01 12:00", "2022-07-01T17:00"),
        (MEXICO, "2023-04-02 02:30", "2023-04-02T08:30"),
        (MEXICO, "2023-07-01 12:00", "2023-07-01T18:00"),
        (NEW_YORK, "2021-03-14 02:30", "nonexistent-time"),
        (NEW_YORK, "2021-11-07 01:30", "ambiguous-time"),
        (NEW_YORK | {"repeated_hour": "later"}, "2021-11-07 01:30", "2021-11-07T06:30"),
        (NEW_YORK, "2021-11-07 02:00", "2021-11-07T07:00"),
        # A date is the first instant of its day, also where midnight does not exist or occurs twice.
        ({"zone": "America/Sao_Paulo"}, "2018-11-04", "2018-11-04T03:00"),
        ({"zone": "America/Sao_Paulo"}, "2018-11-04 00:00", "nonexistent-time"),
        ({"zone": "America/Havana"}, "2019-11-03", "2019-11-03T04:00"),
        ({"zone": "Pacific/Apia"}, "2011-12-30", "nonexistent-time"),
        ({"zone": "Asia/Kathmandu"}, "2020-01-05 10:00", "2020-01-05T04:15"),
        ({"zone": "Australia/Lord_Howe"}, "2020-10-04 02:15", "nonexistent-time"),
    ],
)
def test_a_clock_change_is_read_as_declared_or_rejected(options: Any, value: Any, expected: str) -> None:
    assert read(times_dataset("%d/%m/%Y", **options), value) == expected


@pytest.mark.parametrize(("day", "hour", "expected"), [(29, 1, "2020-03-29T00:00"), (29, 2, "nonexistent-time")])
def test_the_hour_field_is_added_before_the_zone_counts(day: int, hour: int, expected: str) -> None:
    assert read(times_dataset("%d/%m/%Y", hour="h", **MADRID), f"{day}/03/2020", hour) == expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2020-03-29 02:30", ["exists in Europe/Madrid", "2020-03-29T02:30", "UTC offset"]),
        ("2020-10-25 02:30", ["occurs twice in Europe/Madrid", "2020-10-25T02:30", "repeated_hour"]),
        ("25.01.2020", ["25/01/2020 (%d/%m/%Y)", "ISO 8601"]),
    ],
)
def test_a_rejection_names_the_value_the_declared_formats_and_the_remedy(value: str, words: list[str]) -> None:
    dataset = times_dataset("%d/%m/%Y", **MADRID)
    (rejection,) = clean_columns(dataset, {"who": ["1"], "when": [value]}).rejections
    assert (rejection.field, rejection.value) == ("when", value)
    assert [word for word in words if word not in rejection.expected] == []


def test_an_offset_from_an_origin_is_elapsed_time() -> None:
    dataset = times_dataset("offset_h", origin="2020-01-01T00:00:00+01:00")
    assert [read(dataset, value) for value in ("0", 25, "1.5", "-1", "2020-01-05")] == [
        "2019-12-31T23:00",
        "2020-01-02T00:00",
        "2020-01-01T00:30",
        "out-of-range",
        "2020-01-05T00:00",
    ]
    assert read(times_dataset("offset_s", origin="2013-09-01"), 172792.0) == "2013-09-02T23:59:52.000"


def test_hour_and_day_of_week_stay_in_utc() -> None:
    cleaned = clean_columns(times_dataset("%d/%m/%Y", **MEXICO), {"who": ["1"], "when": ["2020-01-05 20:00"]})
    assert (cleaned.columns["hour"].tolist(), cleaned.columns["day_of_week"].tolist()) == ([2.0], [0.0])


def test_a_future_time_is_found_in_a_payload_with_a_typed_time() -> None:
    written_ms = 1_578_218_400_000
    records = RecordTimes([written_ms, written_ms], 3_600_000)
    payloads = [b'{"who": "1", "when": %d}' % (written_ms // 1000 + ahead) for ahead in (3_600, 3_601)]
    cleaned = clean_payloads(times_dataset("epoch_s"), payloads, record_times=records)
    assert cleaned.rows.tolist() == [0]
    assert [(r.code, r.value) for r in cleaned.rejections] == [("from-the-future", "1578222001")]


def test_a_row_is_read_without_regard_to_the_rows_around_it() -> None:
    dataset = times_dataset(*BOTH, hour="h", **MADRID)
    cases = [
        Case("05/01/2020", "14"),
        Case("05/01/2020 14:30", "24"),
        Case("2020-03-29 02:30", None),
        Case(datetime(2020, 1, 5, tzinfo=UTC), 3),
        Case(None, 3),
        Case([], 3),
    ]
    assert read_times(dataset, cases) == [read_times(dataset, [case])[0] for case in cases]
