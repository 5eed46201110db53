"""Slow, straightforward reference parsers of numbers, booleans and ids, and random texts for them.

They share no code and no regular expression with `scoring.input`, and compute with `decimal.Decimal`. A value is a
float or a text, None is missing, and a rejection is its code. `number_differences(n, seed)` and its siblings compare n
values; a sample runs in the suite, and `python -m tests.helpers.reference_parsers N` runs as many as wanted.
"""

import math
import random
import sys
import unicodedata
from decimal import Decimal, localcontext
from typing import NamedTuple

from schemas.dataset.value_formats import FALSE_VALUES, TRUE_VALUES, NumberFormat, TruthValues, fold_spelling
from scoring.input.boolean_parsing import parse_booleans
from scoring.input.number_parsing import parse_numbers
from scoring.input.text_parsing import parse_identifiers
from scoring.input.value_parsing import Fault

DIGITS = "0123456789"
SPACES = " \u00a0\u2009\u202f"
APOSTROPHES = "'\u2019\u02bc"
FULL_WIDTH = {chr(0xFF10 + i): str(i) for i in range(10)} | {"．": ".", "，": ",", "＋": "+", "％": "%"}
MINUS_SIGNS = "−－﹣‒–"
LARGEST = Decimal("340282346638528859811704183484516925440")  # of a float of 32 bits
MAX_LENGTH = 200
WORDS = (
    *("true", "yes", "y", "t", "1", "1.0", "sí", "si", "verdadero", "sim", "maybe", "2", "5", "3.0", "pending"),
    *("false", "no", "n", "f", "0", "0.0", "falso", "não"),
)

NUMBER_FORMATS = {
    "nothing": NumberFormat(),
    "either": NumberFormat(decimal="either"),
    "point": NumberFormat(decimal="."),
    "comma": NumberFormat(decimal=","),
    "1,080.5": NumberFormat(decimal=".", thousands=","),
    "1.080,5": NumberFormat(decimal=",", thousands="."),
    "1 080,5": NumberFormat(decimal=",", thousands=" "),
    "1'080.5": NumberFormat(decimal=".", thousands="'"),
    "currency": NumberFormat(decimal=".", thousands=",", currency=("$", "MXN", "R$")),
    "currency, no marks": NumberFormat(currency=("€", "E")),
    "percent": NumberFormat(percent="points"),
    "fraction": NumberFormat(decimal=",", percent="fraction"),
    "normalize": NumberFormat(normalize=True),
    "normalize, comma": NumberFormat(decimal=",", thousands=" ", normalize=True, currency=("￥",)),
}


class Rejected(NamedTuple):
    """A value that is not read."""

    code: str


NOT_A_NUMBER = Rejected("not-a-number")
AMBIGUOUS = Rejected("ambiguous-number")


def reference_number(text: str, form: NumberFormat, missing: frozenset[str]) -> float | Rejected | None:
    """What a text means as a number."""
    if len(text) > MAX_LENGTH:
        return NOT_A_NUMBER
    text = text.strip()
    if form.normalize:
        plain = "".join("-" if c in MINUS_SIGNS else FULL_WIDTH.get(c, c) for c in text)
    else:
        plain = text
    if any(spelling in missing for spelling in (text, plain, _whole(text), _whole(plain))):
        return None
    rest = plain
    if form.percent:
        if not rest.endswith("%"):
            return NOT_A_NUMBER
        rest = rest[:-1].rstrip(SPACES)
    for candidate in [rest] if form.percent else _without_currency(rest, form.currency):
        found = _number(candidate, form)
        if found != NOT_A_NUMBER:
            return _float(found, form) if isinstance(found, Decimal) else found
    return NOT_A_NUMBER


def _float(number: Decimal, form: NumberFormat) -> float | Rejected:
    with localcontext(prec=10_000, Emax=10**6, Emin=-(10**6)):
        exact = number / 100 if form.percent == "fraction" else number
        return Rejected("out-of-range") if abs(exact) > LARGEST else float(exact)


def _whole(text: str) -> str:
    """A whole number without `.0`; other text as it is."""
    digits = text[:-2].lstrip("+-") if text.endswith(".0") and text[:1] not in ("", ".") else ""
    signs = len(text) - 2 - len(digits)
    return text[:-2] if digits and all(c in DIGITS for c in digits) and signs <= 1 else text


def _without_currency(text: str, currency: tuple[str, ...]) -> list[str]:
    """The text without currency signs, in every way in which they may be taken off; the text itself first."""
    candidates = [text]
    candidates += [text[: -len(sign)].rstrip(SPACES) for sign in currency if text.endswith(sign)]
    for body in list(candidates):
        for sign in currency:
            leading, rest = (body[0], body[1:].lstrip(SPACES)) if body[:1] in ("+", "-") else ("", body)
            if rest.startswith(sign):
                inner = rest[len(sign) :].lstrip(SPACES)
                if not (leading and inner[:1] in ("+", "-")):
                    candidates.append(leading + inner)
    return candidates


def _number(text: str, form: NumberFormat) -> Decimal | Rejected:
    sign, body = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    at = next((i for i, c in enumerate(body) if c in "eE"), len(body))
    mantissa, exponent = body[:at], body[at + 1 :]
    power = 0
    if at < len(body):
        digits = exponent[1:] if exponent[:1] in ("+", "-") else exponent
        if not digits or any(c not in DIGITS for c in digits):
            return NOT_A_NUMBER
        power = int(exponent)
    if form.decimal is None and at == len(body) and _is_ambiguous(mantissa):
        return AMBIGUOUS
    plain = _plain_mantissa(mantissa, form)
    if plain is None:
        return NOT_A_NUMBER
    if abs(power) > 5_000:
        return Decimal(0) if power < 0 or not plain.strip("0.") else Decimal("1e5000").copy_sign(Decimal(sign + "1"))
    return Decimal(f"{sign}{plain}e{power}")


def _is_ambiguous(mantissa: str) -> bool:
    """Whether the marks of a number without declared marks could group its digits, in some format."""
    marks = [c for c in mantissa if c not in DIGITS]
    for mark in marks:
        if mark not in ".," + SPACES + APOSTROPHES:
            return False
    groups: list[str] = [""]
    for c in mantissa:
        if c in DIGITS:
            groups[-1] += c
        else:
            groups.append("")
    if len(groups) < 2 or not 1 <= len(groups[0]) <= 3 or groups[0].startswith("0"):
        return False
    if len(groups) == 2 and len(groups[1]) == 3:  # one mark: a decimal mark, unless it may group
        return True
    inner, last = groups[1:-1], groups[-1]
    return all(len(group) == 3 for group in inner) and bool(inner) and (len(last) == 3 or marks[-1] in ".,")


def _plain_mantissa(mantissa: str, form: NumberFormat) -> str | None:
    """Digits with at most one point; None if the text is no number of the format."""
    decimal_marks = {".": ".", ",": ","}.get(form.decimal or "", ".,")
    group_marks = ""
    if form.thousands:
        group_marks = next((kinds for kinds in (SPACES, APOSTROPHES) if form.thousands in kinds), form.thousands)
    places = [i for i, c in enumerate(mantissa) if c in decimal_marks]
    if len(places) > 1:
        return None
    whole, part = (mantissa[: places[0]], mantissa[places[0] + 1 :]) if places else (mantissa, "")
    if any(c not in DIGITS for c in part):
        return None
    groups = [""]
    for c in whole:
        if c in group_marks:
            groups.append("")
        elif c in DIGITS:
            groups[-1] += c
        else:
            return None
    if len(groups) > 1 and (
        not 1 <= len(groups[0]) <= 3 or groups[0].startswith("0") or any(len(group) != 3 for group in groups[1:])
    ):
        return None
    digits = "".join(groups)
    return f"{digits or '0'}.{part or '0'}" if digits or part else None


def reference_boolean(text: str, truth: TruthValues, missing: frozenset[str]) -> float | Rejected | None:
    """What a text means as a boolean or a label."""
    stripped = text.strip()
    for spelling in (stripped, _whole(stripped)):
        if spelling in missing:
            return None
        for value, spellings in ((1.0, truth.true), (0.0, truth.false), (None, truth.unknown)):
            if fold_spelling(spelling) in spellings:
                return value
    return {"reject": Rejected("not-a-boolean"), "false": 0.0, "unknown": None}[truth.others]


def reference_id(text: str, missing: frozenset[str]) -> str | Rejected | None:
    """What a text means as a key or a transaction id."""
    if len(text) > MAX_LENGTH:
        return Rejected("too-long")
    stripped = text.strip()
    if not stripped or stripped in missing or _whole(stripped) in missing:
        return None
    if stripped.lower() in ("true", "false"):
        return Rejected("not-an-id")
    mantissa, e, exponent = stripped.lower().partition("e")
    digits = mantissa.lstrip("+-").replace(",", ".", 1).replace(".", "", 1)
    signed = len(mantissa) - len(mantissa.lstrip("+-")) <= 1 and mantissa.lstrip("+-")[:1] not in (".", ",")
    if e and signed and exponent[:1] == "+" and _are_digits(digits) and _are_digits(exponent[1:]):
        return Rejected("not-an-id")
    if _whole(stripped) != stripped:
        return Rejected("not-an-id") if abs(int(_whole(stripped))) > 2**53 else _whole(stripped)
    return text


def _are_digits(text: str) -> bool:
    return bool(text) and all(c in DIGITS for c in text)


def random_number_text(draw: random.Random) -> str:
    """A number in one of many formats, sometimes damaged."""
    size = draw.choice([0, 1, 2, 3, 3, 4, 5, 6, 7, 9, 12])
    whole = "".join(draw.choices(DIGITS, k=size))
    if draw.random() < 0.5:
        mark = draw.choice([*".,", *SPACES, *APOSTROPHES])
        first = len(whole) % 3
        groups = [whole[:first], *(whole[i : i + 3] for i in range(first, len(whole), 3))]
        whole = mark.join(group for group in groups if group)
    text = whole
    if draw.random() < 0.6:
        text += draw.choice(".,") + "".join(draw.choices(DIGITS, k=draw.choice([0, 1, 2, 3, 3, 4])))
    if draw.random() < 0.15:
        text += draw.choice("eE") + draw.choice(["", "+", "-"]) + str(draw.choice([0, 2, 5, 37, 39, 160, 400, 4000]))
    sign = draw.choice(["", "", "", "-", "+", "−"])
    currency = draw.choice(["$", "MXN", "R$", "€", "E", "￥"])
    space = draw.choice(["", "", " ", "\u00a0", "\u202f"])
    text = draw.choice(
        [sign + text] * 5
        + [sign + currency + space + text, currency + space + sign + text, sign + text + space + currency]
        + [sign + text + space + "%"] * 2
    )
    if draw.random() < 0.1:
        text = "".join(draw.choice([c, chr(0xFF10 + int(c))]) if c in DIGITS else c for c in text)
    if draw.random() < 0.1:
        at = draw.randrange(len(text) + 1)
        text = text[:at] + draw.choice([*".,'+-eE%x _٣", "\n", "0"]) + text[at + draw.randrange(2) :]
    return draw.choice(["", "", "", " "]) + text


def random_id(draw: random.Random) -> str:
    """An id, plain or as a spreadsheet or a column of floats damages it."""
    digits = "".join(draw.choices(DIGITS, k=draw.choice([1, 3, 8, 16, 17])))
    numbers = [digits, f"{digits}.0", f"-{digits}.0", f"{digits}.00", f" {digits}.0 "]
    damaged = [f"{digits[0]}.5E+{len(digits)}", f"{digits}E15", f"{digits}e+15", f"{digits}.e+1", f"+{digits},1E+9"]
    others = [f"c-{digits}", "x y", "True", " FALSE", "true1", "NA", " NA", "", " ", "0.0", "é7"]
    return draw.choice([*numbers, *damaged, *others])


def random_spelling(draw: random.Random) -> str:
    """A spelling of true or false, in some language, case and encoding."""
    word = draw.choice(WORDS)
    word = draw.choice([word, word.upper(), word.capitalize(), unicodedata.normalize("NFD", word), word + "x"])
    return draw.choice(["", " "]) + word


def number_differences(n: int, seed: int, column: int = 20) -> list[str]:
    """Random texts that `parse_numbers` reads otherwise than the reference, alone or in a column with others."""
    draw = random.Random(seed)
    different = []
    for _ in range(0, n, column):
        form = NUMBER_FORMATS[draw.choice(list(NUMBER_FORMATS))]
        missing = draw.choice([frozenset({""}), frozenset({"", "NA", "-999", "0"})])
        texts = [random_number_text(draw) for _ in range(column)]
        wanted = [reference_number(text, form, missing) for text in texts]
        readable = [i for i in range(column) if isinstance(wanted[i], float)]
        for rows in (range(column), readable, *([i] for i in range(column))):
            given = [texts[i] for i in rows]
            parsed, faults = parse_numbers(given, missing, number_format=form)
            for at, i in enumerate(rows):
                found = _found(parsed[at], faults.get(at))
                if found != wanted[i]:
                    different.append(f"{texts[i]!r} as {form}: {found}, reference {wanted[i]}")
    return different


def boolean_differences(n: int, seed: int) -> list[str]:
    """Random spellings that `parse_booleans` reads otherwise than the reference."""
    draw = random.Random(seed)
    usual = TruthValues(
        true=frozenset(map(fold_spelling, TRUE_VALUES)), false=frozenset(map(fold_spelling, FALSE_VALUES))
    )
    codes = TruthValues(true=frozenset({"5"}), false=frozenset({"3"}), unknown=frozenset({"pending"}))
    fraud_only = TruthValues(true=frozenset({"5"}), false=frozenset(), others="false")
    missing = frozenset({"", "n"})
    different = []
    for _ in range(n):
        text, truth = random_spelling(draw), draw.choice([usual, codes, fraud_only])
        parsed, faults = parse_booleans([text], missing, truth)
        found, wanted = _found(parsed[0], faults.get(0)), reference_boolean(text, truth, missing)
        if found != wanted:
            different.append(f"{text!r} as {truth}: {found}, reference {wanted}")
    return different


def id_differences(n: int, seed: int) -> list[str]:
    """Random ids that `parse_identifiers` reads otherwise than the reference, alone or in a column with others."""
    draw = random.Random(seed)
    missing = frozenset({"NA", "0"})
    texts = [random_id(draw) for _ in range(n)]
    alone = [parse_identifiers([text], missing) for text in texts]
    parsed, faults = parse_identifiers(texts, missing)
    different = []
    for i, text in enumerate(texts):
        wanted = reference_id(text, missing)
        for (value,), fault in (alone[i], ([parsed[i]], {0: faults[i]} if i in faults else {})):
            found = Rejected(fault[0].code) if fault else value
            if found != wanted:
                different.append(f"{text!r}: {found}, reference {wanted}")
    return different


def _found(value: float, fault: Fault | None) -> float | Rejected | None:
    if fault is not None:
        return Rejected(fault.code)
    return None if math.isnan(value) else float(value)


if __name__ == "__main__":
    count, wrong = int(sys.argv[1]), False
    for kind, compare in (("numbers", number_differences), ("booleans", boolean_differences), ("ids", id_differences)):
        different = compare(count, 0)
        wrong = wrong or bool(different)
        print(
            f"{kind}: {count:,} values, {len(different)} read otherwise than the reference", *different[:20], sep="\n"
        )
    sys.exit(wrong)
