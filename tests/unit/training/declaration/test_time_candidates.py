"""Formats of times: decided by the values, or left to a person."""

import numpy as np
import pytest

from training.declaration.time_candidates import (
    epoch_candidates,
    excel_candidates,
    offset_candidates,
    text_candidates,
)


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        pytest.param(["21/01/2020", "03/02/2020"], ("%d/%m/%Y",), id="day first"),
        pytest.param(["01/21/2020", "03/02/2020"], ("%m/%d/%Y",), id="month first"),
        pytest.param(["05/01/2020 14:30", "25/01/2020"], ("%d/%m/%Y %H:%M", "%d/%m/%Y"), id="with and without time"),
        pytest.param(["21/01/2020", "2020-01-05"], ("%d/%m/%Y", "%Y-%m-%d"), id="national and ISO"),
        pytest.param(["2020-01-05T10:00:00Z"], ("%Y-%m-%d",), id="ISO"),
        pytest.param(["5 Jan 2020"], ("%d %b %Y",), id="name of a month"),
        pytest.param(["25/01/2020 10:00:00 +0200"], ("%d/%m/%Y %H:%M:%S %z",), id="offset"),
        pytest.param(["20200105103000"], ("%Y%m%d%H%M%S",), id="digits"),
        pytest.param(["25.01.2020 02:30 PM"], ("%d.%m.%Y %I:%M %p",), id="half of the day"),
    ],
)
def test_a_value_decides_the_format(texts: list[str], formats: tuple[str, ...]) -> None:
    found = text_candidates(dict.fromkeys(texts, 1))
    assert found is not None
    assert set(found.formats) == set(formats)
    assert found.undecided == ()


@pytest.mark.parametrize(
    "texts",
    [
        pytest.param(["02/01/2020", "03/02/2020"], id="no day above 12"),
        pytest.param(["01/02/2020", "13/05/2020", "05/13/2020"], id="both orders"),
        pytest.param(["12/01/2020", "2020-01-05"], id="ISO decides nothing"),
        pytest.param(["05/01/20"], id="two digits"),
    ],
)
def test_an_order_that_no_value_decides_is_left_undecided(texts: list[str]) -> None:
    found = text_candidates(dict.fromkeys(texts, 1))
    assert found is not None
    assert found.formats == ()
    assert {form[:5] for form in found.undecided} >= {"%d/%m", "%m/%d"}


def test_the_value_that_excludes_a_format_is_named() -> None:
    found = text_candidates({"21/01/2020": 1, "03/02/2020": 9})
    assert found is not None
    assert found.excluded == {"%m/%d/%Y": "21/01/2020"}


@pytest.mark.parametrize("texts", [["abc"], ["1.5"], ["06:21"], ["4111111111111111"], ["12"], []])
def test_other_texts_are_no_times(texts: list[str]) -> None:
    assert text_candidates(dict.fromkeys(texts, 1)) is None


@pytest.mark.parametrize(
    ("number", "name"),
    [(1_578_218_400, "epoch_s"), (1_578_218_400_000, "epoch_ms"), (1_578_218_400_000_000, "epoch_us")],
)
def test_an_epoch_is_known_by_its_size(number: float, name: str) -> None:
    found = epoch_candidates(np.array([number, number + 1.0]))
    assert found is not None
    assert found.formats == (name,)


def test_excel_serials_are_known_by_their_size() -> None:
    found = excel_candidates(np.array([43_835.5]))
    assert found is not None
    assert (found.formats, found.has_clock) == (("excel",), True)
    assert excel_candidates(np.array([20_200_105.0])) is None


@pytest.mark.parametrize(
    ("last", "name"),
    [pytest.param(744, "offset_h", id="PaySim"), pytest.param(172_792, "offset_s", id="ULB")],
)
def test_the_unit_of_an_offset_follows_from_the_span(last: float, name: str) -> None:
    found = offset_candidates(np.array([0.0, last / 2, last]))
    assert found is not None
    assert found.formats == (name,)
    assert offset_candidates(np.array([last, 0.0])) is None
