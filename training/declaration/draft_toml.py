"""The TOML text of a draft: every value with its evidence and its doubts as comments. Pure.

Written as text: the structure is fixed and small, and a comment belongs to each line.
"""

import json
import textwrap
from collections.abc import Iterable, Iterator

from schemas.dataset.fields import UNDECIDED
from training.declaration.column import name_words, words
from training.declaration.draft import Draft, time_doubts
from training.declaration.field_draft import FieldDraft, Literals
from training.declaration.roles import LabelRole, NameRole, TimeRole

WIDTH = 118
DOUBT = "DOUBT: "
ENTITY_WORDS = words("merchant terminal shop store device comercio establecimiento tienda dispositivo lojista haendler")
MAX_ENTITIES = 3  # proposed in addition to the key


def render_draft(draft: Draft, source: str, target: str) -> str:
    """The declaration as TOML. source, target: names of the sampled file and of the declaration, for the comments."""
    blocks = [
        "\n".join(_head(draft, source, target)),
        f"name = {_string(draft.name)}",
        "\n".join(_roles(draft)),
        "\n".join(_missing(draft)),
        "\n".join(_features(draft)),
        "\n".join(_dialect(draft)),
        "\n".join(_event_time(draft.time)),
        "\n".join(_label_values(draft.label)),
        *("\n".join(_field(field)) for field in draft.fields),
        "\n".join(_profiles(draft)),
        "\n".join(_left_out(draft)),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _head(draft: Draft, source: str, target: str) -> Iterator[str]:
    sample = draft.sample
    read = f"{sample.n:,} of the {'' if sample.is_whole else 'first '}{sample.rows_read:,} rows"
    yield from _comment(f"Draft of a declaration, written by `tamiz declare` from {read} of {source}.")
    yield from _comment(f"Check every line. {DOUBT}what the file does not decide. Replace each {UNDECIDED!r}.")
    yield f"# Then: tamiz declare --check {_printable(target)} {_printable(source)}"


def _roles(draft: Draft) -> Iterator[str]:
    yield from _name_role("key", draft.key, "the card holder; the Kafka key", absent='key = ""')
    yield from _name_role("transaction_id", draft.transaction_id, "the id of a transaction")
    if draft.label is not None:
        yield from _comments(("the label; known in history only", *draft.label.evidence), draft.label.doubts)
        yield f"label = {_string(draft.label.name)}"
    else:
        yield from _comments((), [doubt for about, doubt in draft.doubts() if about == "label"])
        candidate = draft.label_candidates[0] if draft.label_candidates else "..."
        yield f"# label = {_string(candidate)}"
    yield from _name_role("amount", draft.amount, "what a missed fraud costs")


def _name_role(key: str, role: NameRole, about: str, absent: str | None = None) -> Iterator[str]:
    yield from _comments((about, *role.evidence), role.doubts)
    if role.name is not None:
        yield f"{key} = {_string(role.name)}"
    elif absent is not None:
        yield absent


def _missing(draft: Draft) -> Iterator[str]:
    counts = ", ".join(f"{text!r} {rows:,}" for text, rows in draft.missing_counts.items()) or "none was seen"
    yield from _comment(f"spellings of a missing value, in every field: {counts}")
    yield f"missing = {_literal(draft.missing)}"
    if draft.decimal is not None:
        yield from _comment("the decimal mark in texts; every field that decides one has this mark, or its own below")
        yield f"decimal = {_string(draft.decimal)}"


def _features(draft: Draft) -> Iterator[str]:
    yield from _comment("what the model sees; `hour` and `day_of_week` are computed from the event time, in UTC")
    yield "features = ["
    line = ""
    for name in map(_string, draft.features):
        if len(line) + len(name) > WIDTH - 8:
            yield f"    {line}".rstrip()
            line = ""
        line += f"{name}, "
    yield f"    {line}".rstrip()
    for name, reason in draft.leaks.items():
        yield from _comment(f"{DOUBT}left out: {reason}", indent="    ")
        yield f"    # {_string(name)},"
    yield "]"


def _dialect(draft: Draft) -> Iterator[str]:
    dialect = draft.sample.dialect
    if dialect is None:
        return
    yield "[csv]"
    doubts = list(dialect.doubts)
    if draft.sample.unreadable:
        doubts.append(f"{draft.sample.unreadable:,} rows cannot be split into the header's fields and are rejected")
    evidence = list(dialect.evidence)
    if draft.sample.unnamed:
        evidence.append(f"{draft.sample.unnamed} column without a name is ignored")
    yield from _comments(evidence, doubts)
    yield f"delimiter = {_string(dialect.delimiter)}"
    yield f"encoding = {_string(dialect.encoding)}"


def _event_time(time: TimeRole | None) -> Iterator[str]:
    yield "[event_time]"
    doubts = [doubt for _, doubt in time_doubts(time)]
    if time is None:
        yield from _comments((), doubts)
        yield f"date = {_string(UNDECIDED)}"
        yield f"formats = [{_string(UNDECIDED)}]"
        return
    candidates = time.candidates
    evidence = [*time.evidence, *(["ISO 8601 is always read"] if candidates.is_iso else [])]
    yield from _comments(evidence, doubts)
    yield f"date = {_literal(time.parts if len(time.parts) > 1 else time.parts[0])}"
    if candidates.undecided:
        yield from (f"# formats = [{_string(form)}]" for form in candidates.undecided)
        yield f"formats = [{_string(UNDECIDED)}]"
    else:
        yield f"formats = {_literal(candidates.formats)}"
    if time.origin is not None:
        yield f"origin = {_string(time.origin)}"
    if time.hour is not None:
        yield f"hour = {_string(time.hour)}"
    if not candidates.has_zone:
        yield 'zone = "UTC"'


def _label_values(label: LabelRole | None) -> Iterator[str]:
    if label is None or not label.fraud:
        return
    yield "[label_values]"
    yield f"fraud = {_literal(label.fraud)}"
    yield f"legitimate = {_literal(label.legitimate)}"
    if label.unknown:
        yield f"unknown = {_literal(label.unknown)}"


def _field(field: FieldDraft) -> Iterator[str]:
    yield "[[fields]]"
    yield from _field_lines(field)
    for entry in field.entries:
        yield ""
        yield "[[fields.entries]]"
        yield from _field_lines(entry)


def _field_lines(field: FieldDraft) -> Iterator[str]:
    yield from _comments(field.evidence, field.doubts)
    yield f"name = {_string(field.name)}"
    if field.key:
        yield f"key = {_string(field.key)}"
    yield f"kind = {_string(str(field.kind))}"
    for key, value in field.keys.items():
        yield f"{key} = {_literal(value)}"


def _profiles(draft: Draft) -> Iterator[str]:
    """Profiles that usually help, as comments: of the key, and of columns named like a merchant or a device."""
    parts = [part for field in draft.fields for part in (field.entries or (field,)) if part.name not in draft.leaks]
    merchants = [part.name for part in parts if part.kind == "category" and name_words(part.name) & ENTITY_WORDS]
    tables: list[tuple[str, ...]] = []
    if draft.key.name is not None:
        amount = draft.amount.name
        own = ("count", *((f"mean({amount})", f"ratio({amount})") if amount else ()), "seconds_since_last")
        tables.append(
            (f"entity = {_string(draft.key.name)}", 'windows = ["1d", "7d", "30d"]', f"features = {_literal(own)}")
        )
    if draft.label is not None:
        features = _literal(("labelled_count", "fraud_rate", "frauds_in_row"))
        for name in merchants[:MAX_ENTITIES]:
            entity = f"entity = {_string(name)}"
            tables.append((entity, 'windows = ["1d", "7d", "30d"]', 'label_delay = "7d"', f"features = {features}"))
    if tables:
        yield from _comment(
            "What an entity did before often shows more than the transaction. Remove the signs to use it."
        )
    for table in tables:
        yield from ("# [[profiles]]", *(f"# {line}" for line in table))


def _left_out(draft: Draft) -> Iterator[str]:
    if draft.left_out:
        yield from _comment("Columns that are not declared, and why:")
    for field in draft.left_out:
        yield from _comment(f"  {field.name!r}: {field.reason}")


def _comments(evidence: Iterable[str], doubts: Iterable[str]) -> Iterator[str]:
    for text in evidence:
        yield from _comment(text)
    for text in doubts:
        yield from _comment(f"{DOUBT}{text}")


def _comment(text: str, indent: str = "") -> Iterator[str]:
    start = f"{indent}# "
    yield from textwrap.wrap(
        _printable(text), WIDTH, initial_indent=start, subsequent_indent=f"{start}  ", break_on_hyphens=False
    )


def _literal(value: Literals) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _string(value) if isinstance(value, str) else f"[{', '.join(map(_string, value))}]"


def _string(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, except for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
