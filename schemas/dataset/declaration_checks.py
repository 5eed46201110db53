"""Checks of a declaration beyond its types: names, ranges, roles and formats. Pure."""

from collections.abc import Iterator

from schemas.dataset.fields import DERIVED, CsvForm, Declaration, Field, MappingEntry, column_kinds, declared
from schemas.dataset.profile_checks import profile_faults
from schemas.dataset.time_checks import time_faults
from schemas.dataset.value_formats import GROUPING_MARKS, LabelValues, fold_spelling


def find_fault(declaration: Declaration) -> str | None:
    """The first contradiction of a declaration, with the name of its field; None if there is none."""
    return next(_faults(declaration), None)


def _fault(field: str, why: str) -> str:
    return f"field {field!r}: {why}"


def _faults(declaration: Declaration) -> Iterator[str]:
    yield from _column_faults(declaration)
    yield from _role_faults(declaration)
    yield from _format_faults(declaration)
    yield from profile_faults(declaration)


def _column_faults(declaration: Declaration) -> Iterator[str]:
    columns = [*DERIVED, *(f.name for f in declaration.fields if f.kind != "mapping")]
    columns += [entry.name for f in declaration.fields for entry in f.entries]
    for name in [*columns, *(f.name for f in declaration.fields if f.kind == "mapping")]:
        if columns.count(name) > 1:
            yield _fault(name, "declared more than once")
    for f in declaration.fields:
        if (f.kind == "mapping") != bool(f.entries):
            yield _fault(f.name, "a mapping needs entries; other kinds must not have any")
        if len({entry.key for entry in f.entries}) < len(f.entries):
            yield _fault(f.name, "two entries read the same key")
        ranges: list[Field | MappingEntry] = [f, *f.entries]
        for ranged in ranges:
            bounded = ranged.min is not None or ranged.max is not None
            if bounded and ranged.kind != "number":
                yield _fault(ranged.name, "only a number may have min and max")
            if ranged.min is not None and ranged.max is not None and ranged.min > ranged.max:
                yield _fault(ranged.name, f"min {ranged.min} is above max {ranged.max}")


def _role_faults(declaration: Declaration) -> Iterator[str]:
    columns = column_kinds(declaration)
    if not declaration.features:
        yield _fault("features", "the list is empty")
    for name in declaration.features:
        if name == declaration.label:
            yield _fault(name, "the label cannot be a feature: it is not known when a transaction is scored")
        if name not in columns:
            profiles = "; a profile's features are added without being listed" if declaration.profiles else ""
            yield _fault(name, f"listed as a feature, but no field or entry has this name{profiles}")
        if declaration.features.count(name) > 1:
            yield _fault(name, "listed twice among the features")
    if declaration.amount is not None and columns.get(declaration.amount) != "number":
        yield _fault(declaration.amount, "the amount must be a field of kind number")
    time = declaration.event_time
    for why in time_faults(time):
        yield _fault(" ".join(time.parts), why)
    if not time.parts or len(set(time.parts)) < len(time.parts):
        yield _fault("event_time.date", "name one field, or a list of different fields")
    taken = {f.name for f in declaration.fields}
    for role in (declaration.label, *time.parts, declaration.transaction_id):
        if role in taken:
            yield _fault(
                str(role), "label, date and transaction id are declared by role and must not be among the fields"
            )


def _format_faults(declaration: Declaration) -> Iterator[str]:
    yield from _csv_faults(declaration.csv)
    yield from _number_faults("the data set", declaration, declaration)
    yield from _truth_faults("true_values, false_values", declaration.true_values, declaration.false_values)
    yield from _label_faults(declaration.label_values)
    parts: list[Field | MappingEntry] = list(declaration.fields)
    for f in [*parts, *(entry for field in declaration.fields for entry in field.entries)]:
        numeric = (f.decimal, f.thousands, f.currency, f.percent, f.normalize)
        if f.kind != "number" and any(value is not None for value in numeric):
            yield _fault(f.name, "decimal, thousands, currency, percent and normalize are for numbers only")
        if f.kind != "boolean" and (f.true_values is not None or f.false_values is not None):
            yield _fault(f.name, "true_values and false_values are for booleans only")
        if f.kind == "number":
            yield from _number_faults(f.name, f, declaration)
        if f.kind == "boolean":
            true, false = (declared(declaration, f, key) for key in ("true_values", "false_values"))
            yield from _truth_faults(f.name, true, false)


def _csv_faults(csv: CsvForm) -> Iterator[str]:
    if len(csv.delimiter) != 1 or csv.delimiter in '\r\n"':
        yield _fault("csv.delimiter", f"{csv.delimiter!r} is not one character other than a quotation mark")
    try:
        "".encode(csv.encoding)
    except LookupError:
        yield _fault("csv.encoding", f"{csv.encoding!r} is no text encoding; name one of Python's, such as utf-8")


def _number_faults(name: str, own: Declaration | Field | MappingEntry, declaration: Declaration) -> Iterator[str]:
    decimal, thousands = (declared(declaration, own, key) for key in ("decimal", "thousands"))
    if thousands is not None:
        if thousands not in GROUPING_MARKS:
            marks = "a point, a comma, a space or an apostrophe"
            yield _fault(name, f"thousands {thousands!r} is no grouping mark; it may be {marks}")
        if decimal not in (".", ","):
            yield _fault(name, 'thousands needs decimal = "." or decimal = ","')
        if thousands == decimal:
            yield _fault(name, f"{thousands!r} cannot be both the decimal and the grouping mark")
    for sign in own.currency or ():
        if not sign.strip() or any(c.isdigit() or c in "+-.,%" for c in sign):
            yield _fault(name, f"currency {sign!r} is no sign: it may not be blank nor contain a digit or any of +-.,%")


def _truth_faults(name: str, true: tuple[str, ...], false: tuple[str, ...]) -> Iterator[str]:
    if not true or not false:
        yield _fault(name, "true_values and false_values need at least one spelling each")
    yield from _shared_spellings(name, {"true_values": true, "false_values": false})


def _label_faults(values: LabelValues) -> Iterator[str]:
    if values.others != "reject" and not values.fraud:
        yield _fault("label_values", f"others = {values.others!r} needs the values that mean fraud")
    if bool(values.fraud) != bool(values.legitimate) and values.others == "reject":
        yield _fault("label_values", "fraud and legitimate need at least one value each, or set others")
    lists = {"fraud": values.fraud, "legitimate": values.legitimate, "unknown": values.unknown}
    yield from _shared_spellings("label_values", lists)


def _shared_spellings(name: str, lists: dict[str, tuple[str, ...]]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for key, spellings in lists.items():
        for spelling in spellings:
            other = seen.setdefault(fold_spelling(spelling), key)
            if other != key:
                yield _fault(name, f"{spelling!r} is among {other} and {key}")
