"""Random event times are read as pandas and the standard library read them, or rejected."""

from datetime import UTC, datetime

import pytest

from schemas.dataset.time_formats import compile_format
from tests.helpers.reference_times import FORMATS, differences


@pytest.mark.parametrize("seed", range(3))
def test_a_time_is_read_as_the_reference_reads_it(seed: int) -> None:
    assert differences(1_000, seed) == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_reads_what_strftime_writes(form: str) -> None:
    compiled = compile_format(form)
    for moment in (datetime(2020, 1, 5, 14, 30, 15, 250_000, UTC), datetime(2020, 12, 31, 0, 5, tzinfo=UTC)):
        text = moment.strftime(form)
        found, right = compiled.parse(text), datetime.strptime(text, form).replace(tzinfo=UTC)
        assert found is not None
        assert found.local_ms == right.timestamp() * 1000
