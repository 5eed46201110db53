"""Draft of one field: its kind, its formats, and whether it becomes a feature. Pure."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from schemas.dataset.fields import UNDECIDED
from schemas.dataset.value_formats import fold_spelling
from scoring.input.mapping_parsing import parse_mappings
from training.declaration.column import MAYBE_MISSING, Column, column_of, words
from training.declaration.roles import CLOCK, TRUTH

KEPT_LEVELS = 50  # of a category; the model folds the others into OTHER
MIN_LEVEL_COVER = 0.2  # share of the rows that these levels must cover
MIN_LONG_CODE = 13  # digits of a whole number that is no count and no amount
MAX_ENTRIES = 30
CODE_WORDS = words("mcc zip zipcode postal postcode code codigo cp bin category type addr1 addr2")
PERSON_WORDS = words("first last name surname street address email phone nombre apellido calle direccion telefono")

Literals = str | tuple[str, ...] | bool


class FieldDraft(NamedTuple):
    """A field as the declaration has it. A field that is left out has a reason and no kind."""

    name: str
    kind: Literal["number", "boolean", "category", "mapping"] | None
    keys: dict[str, Literals]  # further keys of the field
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]
    reason: str = ""  # why it is no feature
    key: str = ""  # of an entry
    entries: tuple["FieldDraft", ...] = ()


def draft_field(column: Column, *, siblings_decimal: str | None, data_set_missing: Sequence[str]) -> FieldDraft:
    """Infer the kind of a column from its values and its name.

    siblings_decimal: the decimal mark that other columns of the file decide. data_set_missing: spellings of missing
    that are declared for all fields.
    """
    if column.objects or any(text.startswith("{") for text in list(column.counts)[:20]):
        return _mapping(column, siblings_decimal, data_set_missing)
    if not column.counts:
        return _left_out(column, "every value is missing")
    if len(column.counts) == 1 and column.present == len(column.values):  # a value or none is information
        return _left_out(column, f"constant: every value is {next(iter(column.counts))!r}")
    if all(fold_spelling(text) in TRUTH for text in column.counts) and len(column.counts) <= len(TRUTH):
        return _boolean(column)
    if column.is_numeric:
        return _code(column) or _number(column, siblings_decimal, data_set_missing)
    if column.times is not None:
        return _left_out(column, "a date: only the event time is read as one")
    if all(CLOCK.fullmatch(text) for text in column.counts):
        return _left_out(column, "a time of day: only the event time is read as one")
    return _category(column)


def _left_out(column: Column, reason: str) -> FieldDraft:
    return FieldDraft(column.name, None, {}, (), (), reason)


def _boolean(column: Column) -> FieldDraft:
    shown = ", ".join(f"{text!r} {rows:,}" for text, rows in column.counts.items())
    return FieldDraft(column.name, "boolean", {}, (shown,), ())


def _code(column: Column) -> FieldDraft | None:
    """A category whose levels are whole numbers."""
    zero = column.marks.leading_zero
    named = column.words & CODE_WORDS
    long = next((text for text in column.counts if len(text) >= MIN_LONG_CODE), None)
    if not column.is_whole or not (zero or named or long):
        return None
    if long and not (zero or named):
        return _category(column, f"whole numbers as long as {long!r} are names; {len(column.counts):,} values")
    why = (
        f"{zero!r} has a leading zero, so these are codes and no numbers"
        if zero
        else f"whole numbers named {min(named)}"
    )
    return _category(column, f"{why}; {len(column.counts):,} values")


def _category(column: Column, evidence: str = "") -> FieldDraft:
    rows = sum(column.counts.values())
    top = sorted(column.counts.values(), reverse=True)[:KEPT_LEVELS]
    cover = sum(top) / rows
    levels = f"{len(column.counts):,} levels"
    if column.words & PERSON_WORDS and not evidence:
        return _left_out(column, f"{levels}; named like a personal detail or a free text")
    if cover < MIN_LEVEL_COVER:
        return _left_out(column, f"{levels}; the {KEPT_LEVELS} that a model keeps cover {cover:.0%} of the rows")
    shown = ", ".join(map(repr, list(column.counts)[:4]))
    doubts = [
        f"{text!r} may mean missing; it is read as a level"
        for text in column.counts
        if text.casefold() in MAYBE_MISSING
    ]
    doubts += [
        f"{text!r} is read as missing in {n:,} rows: is it a level?"
        for text, n in column.missing.items()
        if text.casefold() in ("na", "none", "nil")
    ]
    if len(column.counts) > KEPT_LEVELS:
        levels += f"; the {KEPT_LEVELS} that a model keeps cover {cover:.0%} of the rows"
    return FieldDraft(column.name, "category", {}, (evidence or f"{levels}, such as {shown}",), tuple(doubts))


def _number(column: Column, siblings_decimal: str | None, data_set_missing: Sequence[str]) -> FieldDraft:
    marks = column.marks
    keys: dict[str, Literals] = {}
    evidence: list[str] = []
    doubts: list[str] = []
    decimal = next(iter(marks.decides), None)
    counted = ", ".join(f"texts that decide {mark!r}: {n:,}" for mark, n in marks.decides.items())
    ambiguous = [f"ambiguous, such as {marks.ambiguous_examples[mark]!r}: {n:,}" for mark, n in marks.ambiguous.items()]
    unclear = ", ".join(ambiguous)
    if column.typed_numbers == column.present:
        evidence.append("typed numbers have no marks")
    elif counted or unclear:
        evidence.append("; ".join(filter(None, (counted, unclear))))
    if column.typed_numbers == column.present:
        decimal = None
    elif marks.verdict == "either":
        decimal = "either"
        doubts.append(f"both marks are used as decimal marks: {', '.join(map(repr, marks.examples.values()))}")
    elif marks.verdict == "contradictory":
        decimal = UNDECIDED
        shown = ", ".join(map(repr, [*marks.examples.values(), *marks.ambiguous_examples.values()]))
        doubts.append(
            f"the texts contradict each other ({shown}): decimal may be '.' or ','; correct the file, or choose"
        )
    elif marks.verdict == "ambiguous" and siblings_decimal in (".", ","):
        decimal = siblings_decimal
        doubts.append(f"no text decides the mark; other columns have the decimal mark {siblings_decimal!r}")
    elif marks.verdict == "ambiguous":
        decimal = UNDECIDED
        example = next(iter(marks.ambiguous_examples.values()))
        doubts.append(f"{example!r} is {_both_readings(example)}: decimal may be '.' or ',' (the other is thousands)")
    elif decimal is None and marks.grouping:
        decimal = siblings_decimal if siblings_decimal in (".", ",") else "."
        evidence.append(f"no text has a fraction; decimal = {decimal!r} is needed together with thousands")
    if decimal is not None:
        keys["decimal"] = decimal
    group = marks.grouping_with(decimal) if decimal in (".", ",") else None
    if group is not None:
        keys["thousands"] = group
        evidence.append(
            f"{marks.grouping.get(group, 0) + marks.ambiguous.get(group, 0):,} texts group thousands by {group!r}"
        )
    if marks.currency:
        keys["currency"] = marks.currency
    if marks.percent:
        keys["percent"] = "points"
        if marks.percent < marks.numbers:
            doubts.append(f"{marks.numbers - marks.percent:,} texts have no percent sign and are rejected")
    if marks.normalize:
        keys["normalize"] = True
        evidence.append("full-width digits or typographic minus signs")
    others = [text for text in marks.others if text not in data_set_missing]
    missing = tuple(text for text in others if text.casefold() in MAYBE_MISSING)
    if missing:
        keys["missing"] = missing
        doubts.append(f"read as missing: {', '.join(map(repr, missing))}")
    if invalid := [text for text in others if text not in missing]:
        doubts.append(f"no numbers, so rejected: {', '.join(map(repr, invalid[:5]))}")
    if column.is_whole and len(column.counts) <= KEPT_LEVELS:
        evidence.append(f"{len(column.counts)} different whole numbers: make it a category if they are codes")
    return FieldDraft(column.name, "number", keys, tuple(evidence), tuple(doubts))


def _both_readings(text: str) -> str:
    digits = "".join(c for c in text if c.isdigit() or c in ".,")
    mark = "." if "." in digits else ","
    return f"{digits.replace(mark, '.')} or {digits.replace(mark, '')}"


def _mapping(column: Column, siblings_decimal: str | None, data_set_missing: Sequence[str]) -> FieldDraft:
    keys: dict[str, None] = {}
    everything = frozenset(data_set_missing)
    for value in column.values:
        if isinstance(value, dict):
            keys |= dict.fromkeys(map(str, value))
    if not keys:
        keys = dict.fromkeys(_text_keys(column))
    found, faults = parse_mappings(column.values, list(keys), everything)
    if not keys or len(faults) > 0.5 * len(column.values):
        return _left_out(column, "objects or lists that are no flat mapping")
    entries = []
    for key in list(keys)[:MAX_ENTRIES]:
        inner = column_of(f"{column.name}_{key}", found[key])
        entry = draft_field(inner, siblings_decimal=siblings_decimal, data_set_missing=data_set_missing)
        entries.append(entry._replace(key=key))
    kept = tuple(entry for entry in entries if entry.kind not in (None, "mapping"))
    if not kept:
        return _left_out(column, "no entry of the mapping can be read")
    evidence = f"mappings with the keys {', '.join(map(repr, keys))}"
    left = tuple(f"entry {entry.key!r} is left out: {entry.reason}" for entry in entries if entry not in kept)
    doubts = (f"{len(faults):,} mappings cannot be read and are rejected",) if faults else ()
    return FieldDraft(column.name, "mapping", {}, (evidence, *left), doubts, entries=kept)


def _text_keys(column: Column) -> list[str]:
    found: dict[str, None] = {}
    for text in list(column.counts)[:200]:
        found |= dict.fromkeys(re.findall(r"""['"]?(\w{1,50})['"]?\s*:""", text))
    return list(found)
