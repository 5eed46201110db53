"""Marks of numbers: what the texts of a column decide, and what they do not."""

import pytest

from training.declaration.number_marks import infer_marks


@pytest.mark.parametrize(
    ("texts", "verdict", "decides", "grouping"),
    [
        pytest.param(["608,3456"], "decided", ",", None, id="decimal comma"),
        pytest.param(["0.125"], "decided", ".", None, id="leading zero"),
        pytest.param(["1234.567"], "decided", ".", None, id="four digits before"),
        pytest.param(["1.080,00"], "decided", ",", ".", id="both marks"),
        pytest.param(["1,234,567"], "decided", ".", ",", id="two groups"),
        pytest.param(["1 080,00"], "decided", ",", " ", id="space"),
        pytest.param(["1\u00a0080,00"], "decided", ",", " ", id="no-break space"),
        pytest.param(["1\u2019000.5"], "decided", ".", "'", id="typographic apostrophe"),
        pytest.param(["1.080"], "ambiguous", None, None, id="ambiguous point"),
        pytest.param(["25,000"], "ambiguous", None, None, id="ambiguous comma"),
        pytest.param(["1.5", "2,5"], "either", None, None, id="both as decimal marks"),
        pytest.param(["1.5", "2,5", "1.080"], "contradictory", None, None, id="contradiction"),
        pytest.param(["12", "-7"], "none", None, None, id="whole numbers"),
    ],
)
def test_texts_decide_the_marks(texts: list[str], verdict: str, decides: str | None, grouping: str | None) -> None:
    found = infer_marks(dict.fromkeys(texts, 1))
    assert (found.numbers, found.verdict) == (len(texts), verdict)
    if decides:
        assert (list(found.decides), found.grouping_with(decides)) == ([decides], grouping)


def test_an_ambiguous_text_has_groups_where_others_decide_the_decimal_mark() -> None:
    found = infer_marks({"1.080": 3, "12,50": 1})
    assert (found.ambiguous, found.verdict, found.grouping_with(",")) == ({".": 3}, "decided", ".")


@pytest.mark.parametrize(
    ("texts", "currency", "percent"),
    [
        pytest.param(["$134.09", "$-99.00"], ("$",), 0, id="before"),
        pytest.param(["12.00 EUR", "1 €"], ("EUR", "€"), 0, id="after"),
        pytest.param(["R$ 1.080,00"], ("R$",), 0, id="two letters"),
        pytest.param(["12 %", "3.5%"], (), 2, id="percent"),
    ],
)
def test_signs_around_numbers_are_found(texts: list[str], currency: tuple[str, ...], percent: int) -> None:
    found = infer_marks(dict.fromkeys(texts, 1))
    assert (found.currency, found.percent, found.numbers) == (currency, percent, len(texts))


@pytest.mark.parametrize("text", ["abc", "C123", "12.00-", "1.2.3", "1,23,456", "(12.00)", "10:30", "", "1/2"])
def test_other_texts_are_no_numbers(text: str) -> None:
    assert infer_marks({text: 2}).others == {text: 2}


@pytest.mark.parametrize("text", ["\u22125.0", "\uff11\uff12.5"])
def test_texts_that_need_normalisation_are_found(text: str) -> None:
    assert infer_marks({text: 1}).normalize
    assert not infer_marks({"-5.0": 1}).normalize
