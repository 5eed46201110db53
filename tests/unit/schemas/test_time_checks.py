"""The declaration of an event time that cannot be read, or that reads one value in two ways, is refused at start."""

from typing import Any

import pytest

from schemas.dataset.fields import EventTimeForm
from schemas.dataset.time_checks import time_faults


def faults(*formats: str, **changes: Any) -> list[str]:
    return list(time_faults(EventTimeForm(date="at", formats=formats, **changes)))


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        ((), "at least one format"),
        (("dd/mm/yyyy",), "needs directives of year, month and day"),
        (("%d/%m",), "needs directives of year, month and day"),
        (("%H:%M",), "needs directives of year, month and day"),
        (("epoch",), "or declare one of epoch_s, epoch_ms, epoch_us, excel"),
        (("%d/%m/%Y %I:%M",), "needs %I and %p together"),
        (("%d/%m/%Y %H:%M %p",), "needs %I and %p together"),
        (("%d/%m/%Y %M:%S",), "minutes or seconds but no hour"),
        (("%D/%m/%Y",), "unknown directive '%D'"),
        (("%-d/%m/%Y",), "unknown directive '%-'"),
        (("%d/%m/%Y %",), "unknown directive '%'"),
        (("%d/%d/%m/%Y",), "states the day more than once"),
        (("%d/%m/%y %Y",), "states the year more than once"),
        (("%Y-%j-%d",), "may not state a month or a day"),
        (("%Y-%m-%d %H:%M CST",), "ends with 'CST'; set zone"),
        (("%d/%m/%Y", "%m/%d/%Y"), "read '01/02/2001' as two different times"),
        (("%y%m%d", "%d%m%y"), "as two different times"),
        (("%d/%m/%Y %H:%M", "%d/%m/%Y %M:%H"), "as two different times"),
        (("epoch_s", "epoch_ms"), "not epoch_s and epoch_ms"),
        (("%Y%m%d", "excel"), "both match digits only"),
        (("offset_h",), "need an origin"),
    ],
)
def test_formats_that_cannot_be_right_are_refused(formats: tuple[str, ...], words: str) -> None:
    assert words in faults(*formats)[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zone": "America/Mexico"}, "did you mean 'America/Mexico_City'?"),
        ({"zone": "CST"}, "is no IANA time zone; give a name"),
        ({"zone": "+02:00"}, "is no IANA time zone"),
        ({"zone": "../../etc/passwd"}, "is no IANA time zone"),
        ({"zone": "localtime"}, "is no IANA time zone"),
        ({"zone": ""}, "is no IANA time zone"),
        ({"origin": "2020-01-01"}, "need an origin"),
    ],
)
def test_a_zone_or_an_origin_that_is_none_is_refused(changes: dict[str, str], words: str) -> None:
    (fault,) = faults("%d/%m/%Y", **changes)
    assert words in fault


def test_an_origin_that_cannot_be_read_is_refused() -> None:
    assert faults("offset_s", origin="1/1/2020") == ["origin '1/1/2020' is no date or time of ISO 8601"]
    assert faults("offset_s", origin="2020-01-01") == []


def test_an_hour_field_with_a_local_zone_is_refused_for_times_in_utc() -> None:
    assert 'needs zone = "UTC"' in faults("epoch_s", hour="h", zone="Europe/Madrid")[0]
    assert faults("excel", hour="h", zone="Europe/Madrid") == faults("epoch_s", hour="h") == []


@pytest.mark.parametrize(
    "formats",
    [
        ("%d/%m/%Y", "%Y-%m-%d"),
        ("%d/%m/%Y", "%d/%m/%y", "%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"),
        ("%Y%m%d", "%d%m%Y"),
        ("%Y-%d-%m",),
        ("%b %d, %Y %I:%M:%S %p",),
        ("%A %d de %B de %Y",),
        ("%Y-%m-%d %H:%M:%S UTC",),
        ("%d/%m/%Y %H:%M", "epoch_ms"),
        ("%d/%m/%Y 100%%",),
    ],
)
def test_formats_that_fit_together_are_accepted(formats: tuple[str, ...]) -> None:
    assert faults(*formats) == []
