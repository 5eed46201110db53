"""Which columns are label, transaction id, card holder, amount and event time: by name and by values. Pure."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.dataset.value_formats import FALSE_VALUES, TRUE_VALUES, fold_spelling
from training.declaration.column import Column, words
from training.declaration.time_candidates import (
    TimeCandidates,
    epoch_candidates,
    excel_candidates,
    offset_candidates,
    offset_spans,
    text_candidates,
)

# Words of column names, in the languages of the data sets that were tried.
LABEL_WORDS = words("fraud fraude isfraud fraudulent fraudulento fraudulenta betrug frode label class target unpaid")
NO_LABEL_WORDS = words("flag flagged score rule predicted prediction probability alert risk")
KEY_WORDS = words(
    "user usuario customer client cliente buyer card cc tarjeta pan account acct cuenta holder member uid who payer "
    "sender orig card1 cardholder userid customerid clientid accountid cardid"
)
NO_KEY_WORDS = words("dest type tipo brand network merchant zip city state present amount balance limit")
ID_WORDS = words("id num number trans transaction txn trx tx order ref reference uuid payment folio operation")
NO_ID_WORDS = words("merchant user customer card account dest orig name time date")
AMOUNT_WORDS = words("amount amt monto importe betrag montant valor value price precio dollars euros total")
TIME_WORDS = words("time date fecha datetime timestamp ts trans dt created placed at when datum hora day moment")
NO_TIME_WORDS = words("dob birth nacimiento expiry exp expires open opened updated since start member")
OFFSET_WORDS = words("step time dt elapsed offset seconds hours")
HOUR_WORDS = words("hour hora stunde heure h")
UNKNOWN_LABELS = words("pending unknown review open undecided pendiente")
PART_WORDS = ("year", "month", "day")
CLOCK = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?")
MAX_LABEL_VALUES = 4
MAX_KEY_SHARE = 0.9  # distinct keys per row
ORIGIN = "2020-01-01T00:00:00Z"  # placeholder of an origin that no file states

TRUTH = {fold_spelling(v): True for v in TRUE_VALUES} | {fold_spelling(v): False for v in FALSE_VALUES}


class TimeRole(NamedTuple):
    """The event time."""

    parts: tuple[str, ...]
    candidates: TimeCandidates
    hour: str | None
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]
    origin: str | None = None


class LabelRole(NamedTuple):
    """The label. The lists are empty when the values are usual spellings of true and false."""

    name: str
    fraud: tuple[str, ...]
    legitimate: tuple[str, ...]
    unknown: tuple[str, ...]
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]


class NameRole(NamedTuple):
    """A column in one of the other roles; None: no column has it."""

    name: str | None
    evidence: tuple[str, ...]
    doubts: tuple[str, ...]


def find_time(columns: Sequence[Column]) -> TimeRole | None:
    """The column or columns of the event time; None when there is none."""
    by_name = {column.compact_name: column for column in columns}
    parts = [by_name[word] for word in PART_WORDS if word in by_name]
    texts = sorted(
        ((_time_score(column, column.times), column) for column in columns if column.times is not None),
        key=lambda pair: -pair[0],
    )
    if texts and texts[0][0] > 0 and not (len(parts) == 3 and "date" not in texts[0][1].words):
        return _text_time(columns, texts[0][1], [column.name for _, column in texts[1:]])
    if len(parts) == 3:
        return _parts_time(columns, parts)
    return _number_time(columns)


def _time_score(column: Column, candidates: TimeCandidates | None) -> float:
    if candidates is None or column.present < 0.5 * len(column.values):
        return -1
    if column.is_numeric and not column.words & TIME_WORDS:  # eight digits may be an amount
        return -1
    score = 1 + 2 * bool(column.words & TIME_WORDS) + 2 * candidates.has_clock + (len(column.counts) > 1)
    ordered = [text for text in column.texts if text is not None]
    return score + (ordered == sorted(ordered)) - 6 * bool(column.words & NO_TIME_WORDS)


def _text_time(columns: Sequence[Column], column: Column, others: list[str]) -> TimeRole:
    assert column.times is not None
    found = column.times
    evidence, doubts = _time_comments(column, found, others)
    if found.has_clock:
        return TimeRole((column.name,), found, None, tuple(evidence), tuple(doubts))
    clock = next((c for c in columns if c.counts and all(CLOCK.fullmatch(text) for text in c.counts)), None)
    if clock is not None:
        joined = _joined([column, clock])
        both = text_candidates(joined)
        if both is not None:
            more = f"{column.name!r} has no time of day; {clock.name!r} has, such as {next(iter(clock.counts))!r}"
            return TimeRole((column.name, clock.name), both, None, (*evidence, more), tuple(doubts))
    hour = next((c for c in columns if c.words & HOUR_WORDS and c.is_whole and _within(c, 0, 23)), None)
    if hour is not None:
        evidence.append(f"{column.name!r} has no time of day; {hour.name!r} has hours from 0 to 23")
        return TimeRole((column.name,), found, hour.name, tuple(evidence), tuple(doubts))
    doubts.append(f"{column.name!r} has no time of day: every transaction is at midnight")
    return TimeRole((column.name,), found, None, tuple(evidence), tuple(doubts))


def _time_comments(column: Column, found: TimeCandidates, others: list[str]) -> tuple[list[str], list[str]]:
    example = next(iter(column.counts))
    evidence, doubts = [f"{found.share:.2%} of {column.name!r} are times, such as {example!r}"], []
    evidence += [f"{form} is excluded by {text!r}" for form, text in list(found.excluded.items())[:4]]
    if others:
        evidence.append(f"also times: {', '.join(map(repr, others[:5]))}")
    if found.failing:
        doubts.append(f"in none of the formats, so rejected: {', '.join(map(repr, found.failing))}")
    return evidence, doubts


def _parts_time(columns: Sequence[Column], parts: list[Column]) -> TimeRole | None:
    clock = next((c for c in columns if c.counts and all(CLOCK.fullmatch(text) for text in c.counts)), None)
    used = [*parts, *([clock] if clock else [])]
    clock_format = "" if clock is None else " %H:%M:%S" if next(iter(clock.counts)).count(":") == 2 else " %H:%M"
    if not (all(c.is_whole for c in parts) and _within(parts[1], 1, 12) and _within(parts[2], 1, 31)):
        return None
    hour = None if clock else next((c for c in columns if c.words & HOUR_WORDS and _within(c, 0, 23)), None)
    candidates = TimeCandidates((f"%Y %m %d{clock_format}",), (), {}, 1.0, (), clock is not None, False)
    names = ", ".join(repr(c.name) for c in used)
    evidence = f"the date is in {names}, such as {next(iter(_joined(used)))!r}; they are joined by spaces"
    return TimeRole(tuple(c.name for c in used), candidates, None if hour is None else hour.name, (evidence,), ())


def _number_time(columns: Sequence[Column]) -> TimeRole | None:
    for find, named in (
        (epoch_candidates, None),
        (excel_candidates, TIME_WORDS),
        (offset_candidates, OFFSET_WORDS),
    ):
        for column in columns:
            if not column.is_numeric or (named is not None and not column.words & named):
                continue
            numbers = column.numbers()
            numbers = numbers[np.isfinite(numbers)]
            found = find(numbers)
            if found is None:
                continue
            shown = f"{numbers.min():.15g} to {numbers.max():.15g}"
            unit = (*found.formats, *found.undecided)[0]
            evidence = [f"{column.name!r} has numbers from {shown}, which fits {unit}"]
            if not unit.startswith("offset"):
                return TimeRole((column.name,), found, None, tuple(evidence), ())
            evidence.append(f"{column.name!r} never decreases and spans {offset_spans(numbers)}")
            doubt = (
                f"the unit is inferred from the span, and the file does not say when 0 is; {ORIGIN} is a placeholder"
            )
            more = "hour and day_of_week count from the placeholder; correct origin if you know it"
            return TimeRole((column.name,), found, None, tuple(evidence), (doubt, more), ORIGIN)
    return None


def _joined(columns: Sequence[Column]) -> dict[str, int]:
    rows = zip(*(column.texts for column in columns), strict=True)
    return dict.fromkeys((" ".join(text.removesuffix(".0") for text in row if text) for row in rows), 1)


def _within(column: Column, low: float, high: float) -> bool:
    numbers = column.numbers()
    numbers = numbers[np.isfinite(numbers)]
    return bool(len(numbers)) and low <= numbers.min() and numbers.max() <= high


def find_label(columns: Sequence[Column]) -> tuple[LabelRole | None, tuple[str, ...]]:
    """The label, or the names of columns that could be it when none is named like one."""
    two_levels = [c for c in columns if 2 <= len(set(map(_meaning, c.counts))) <= MAX_LABEL_VALUES and not c.objects]
    named = [c for c in two_levels if c.words & LABEL_WORDS or "fraud" in c.compact_name or "fraude" in c.compact_name]
    sure = [c for c in named if not c.words & NO_LABEL_WORDS]
    if not sure:
        return None, tuple(c.name for c in two_levels if _rare_share(c) < 0.5)
    chosen = max(sure, key=lambda c: (len(c.words & LABEL_WORDS), "fraud" in c.compact_name, -len(c.name)))
    return _label(chosen, [c.name for c in named if c is not chosen]), ()


def _meaning(text: str) -> bool | str:
    folded = fold_spelling(text)
    return TRUTH.get(folded, folded)


def _rare_share(column: Column) -> float:
    return min(column.counts.values()) / max(1, sum(column.counts.values()))


def _label(column: Column, others: list[str]) -> LabelRole:
    rows = sum(column.counts.values())
    folded = {text: fold_spelling(text) for text in column.counts}
    shown = ", ".join(f"{text!r} {n:,}" for text, n in sorted(column.counts.items(), key=lambda item: -item[1]))
    evidence = [f"{column.name!r} has few values: {shown}"]
    doubts = [f"also named like a label: {', '.join(map(repr, others))}"] if others else []
    unknown = tuple(text for text in column.counts if folded[text] in UNKNOWN_LABELS)
    known = [text for text in column.counts if text not in unknown]
    if all(folded[text] in TRUTH for text in known):
        positive = sum(n for text, n in column.counts.items() if TRUTH.get(folded[text]) is True)
        evidence.append(f"{positive / rows:.2%} are fraud")
        if positive > 0.5 * rows:
            doubts.append("most rows are fraud: is true the value for fraud?")
        if not unknown:
            return LabelRole(column.name, (), (), (), tuple(evidence), tuple(doubts))
        fraud = tuple(text for text in known if TRUTH[folded[text]])
        legitimate = tuple(text for text in known if not TRUTH[folded[text]])
        return LabelRole(column.name, fraud, legitimate, unknown, tuple(evidence), tuple(doubts))
    fraud = tuple(text for text in known if "fraud" in folded[text] and not folded[text].startswith(("no", "legit")))
    if not fraud:
        fraud = (min(known, key=lambda text: column.counts[text]),)
        doubts.append(f"{fraud[0]!r} is taken for fraud because it is the rarer value")
    legitimate = tuple(text for text in known if text not in fraud)
    return LabelRole(column.name, fraud, legitimate, unknown, tuple(evidence), tuple(doubts))


def find_transaction_id(columns: Sequence[Column], n: int) -> NameRole:
    """A column with another value in every row that is named like an id, or looks like one."""
    unique = [c for c in columns if len(c.counts) == n and not c.objects and (not c.is_numeric or c.is_whole)]
    named = [c for c in unique if c.words & ID_WORDS or c.compact_name.endswith("id")]
    likely = sorted(named, key=lambda c: -len(c.words & ID_WORDS))
    if not likely:
        unnamed = [c for c in unique if not c.words & NO_ID_WORDS]
        likely = [c for c in unnamed if all(re.fullmatch(r"[0-9A-Fa-f-]{16,64}", text) for text in c.counts)]
    if not likely:
        by_place = "on the topic an id is made from the record's place, a file's rows have none"
        return NameRole(None, (f"no column named like an id is unique; {by_place}",), ())
    others = [c.name for c in unique if c is not likely[0]]
    more = (f"also unique: {', '.join(map(repr, others[:5]))}",) if others else ()
    return NameRole(likely[0].name, (f"{likely[0].name!r} differs in each of {n:,} rows", *more), ())


def find_key(columns: Sequence[Column], n: int) -> NameRole:
    """The card holder: a column named like one whose values repeat."""
    named = [c for c in columns if c.words & KEY_WORDS and not c.words & NO_KEY_WORDS and not c.objects]
    named = [c for c in named if len(c.counts) > 1 and (not c.is_numeric or c.is_whole or c.marks.exponents)]
    repeating = [c for c in named if len(c.counts) <= MAX_KEY_SHARE * n]
    if not named:
        doubt = "no column is named like a card holder; name it here if there is one, else transactions have no key"
        return NameRole(None, (), (doubt,))
    best = max(repeating or named, key=lambda c: len(c.counts))
    others = [c.name for c in named if c is not best]
    lost = [text for text in best.counts if re.fullmatch(r"\d[.,]\d+E\+\d+", text, re.IGNORECASE)]
    evidence = f"{best.name!r} has {len(best.counts):,} values in {n:,} rows"
    doubts = [] if repeating else ["its values hardly repeat: is this the card holder?"]
    doubts += [f"also named like a card holder: {', '.join(map(repr, others[:5]))}"] if others else []
    doubts += (
        [f"{lost[0]!r} has lost digits (Excel); such rows are rejected. Export the column as text"] if lost else []
    )
    return NameRole(best.name, (evidence,), tuple(doubts))


def find_amount(columns: Sequence[Column]) -> NameRole:
    """The amount of money: a column of numbers that is named like one."""
    named = [
        c for c in columns if c.is_numeric and (c.words & AMOUNT_WORDS or c.compact_name.endswith(("amount", "amt")))
    ]
    if not named:
        return NameRole(None, ("no column of numbers is named like an amount; costs do not depend on one",), ())
    best = max(named, key=lambda c: ("transaction" in c.compact_name, c.marks.currency != (), -len(c.name)))
    others = [c.name for c in named if c is not best]
    doubts = (f"also named like an amount: {', '.join(map(repr, others[:5]))}",) if others else ()
    return NameRole(best.name, (f"{best.name!r} has numbers and is named like an amount",), doubts)
