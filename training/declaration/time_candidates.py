"""Formats that fit a column of dates or times: texts by trial, numbers by their size. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from schemas.dataset.time_formats import ClockTime, TimeFormat, compile_format, parse_iso
from scoring.arrays import Flags, Floats

MAX_FORMATS = 3
MAX_TEXTS = 2_000  # distinct texts that are tried
MIN_SHARE = 0.9  # of the rows that a column of times must have in its formats
ISO = "ISO 8601"
ISO_FORMAT = "%Y-%m-%d"  # declared for it: ISO 8601 is always read, and a declaration names at least one format

_DATES = (
    *("%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%m.%d.%Y", "%Y.%m.%d"),
    *("%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%d-%m-%y", "%m-%d-%y", "%d.%m.%y", "%m.%d.%y"),
    *("%Y-%m-%d", "%Y%m%d", "%d%m%Y", "%m%d%Y"),
    *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d%b%Y"),
    *("%a %d %b %Y", "%a, %d %b %Y"),
)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%H%M%S", "%H%M", "%H.%M.%S")
_ZONES = ("", " %z", "%z")
_JOINS = (" ", "T", ", ")
_OTHERS = ("%a %b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %Z %Y")

_PLAIN_NUMBER = re.compile(r"(?!(?:\d{8}|\d{12}|\d{14})$)[+-]?\d*[.,]?\d*(?:[eE][+-]?\d+)?", re.ASCII)
_DAY_S = 86_400
_EPOCH_S = (946_684_800, 2_051_222_400)  # 2000 to 2035
_EXCEL_DAYS = (36_526, 49_310)  # 2000 to 2035
_UNITS = {"epoch_s": 1, "epoch_ms": 10**3, "epoch_us": 10**6}
_OFFSET_SPAN_DAYS = (0.5, 3_660)  # that a history is expected to cover
_OFFSET_UNITS_S = {"offset_s": 1, "offset_h": 3_600}


class TimeCandidates(NamedTuple):
    """Formats of one column, by what its values allow."""

    formats: tuple[str, ...]  # to declare; empty when `undecided`
    undecided: tuple[str, ...]  # formats that fit every text and read different times
    excluded: dict[str, str]  # similar format -> a text that does not have it
    share: float  # of the rows, in the formats
    failing: tuple[str, ...]  # texts in none of the formats
    has_clock: bool
    has_zone: bool  # every text states its offset
    is_iso: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers that count from an instant."""
        return any("%" not in text for text in (*self.formats, *self.undecided))


def text_candidates(texts: Mapping[str, int]) -> TimeCandidates | None:
    """Formats of texts; None when they are no dates. texts: stripped text -> rows.

    >>> text_candidates({"21/01/2020": 1, "03/02/2020": 1}).formats
    ('%d/%m/%Y',)
    >>> text_candidates({"02/01/2020": 1, "03/02/2020": 1}).undecided
    ('%d/%m/%Y', '%m/%d/%Y')
    """
    tried = list(texts)[:: -(-len(texts) // MAX_TEXTS)] if texts else []
    tried = [text for text in tried if any(c.isdigit() for c in text) and not _PLAIN_NUMBER.fullmatch(text)]
    if len(tried) < MIN_SHARE * min(len(texts), MAX_TEXTS) or not tried or max(map(len, tried)) > 64:
        return None
    head = tried[:20]
    forms = [form for form in _compiled() if any(form.parse(text) for text in head)]
    readings: dict[str, list[ClockTime | None]] = {form.text: [form.parse(text) for text in tried] for form in forms}
    readings[ISO] = [parse_iso(text) for text in tried]
    rows = np.array([texts[text] for text in tried])
    fits = {name: np.array([time is not None for time in times]) for name, times in readings.items()}
    chosen: list[str] = []
    covered = np.zeros(len(tried), dtype=bool)
    undecided: list[str] = []
    for _ in range(MAX_FORMATS):  # a second format for the rest, such as ISO 8601 next to a national one
        rest = {name: fits[name] & ~covered for name in fits}
        orders = {_day_order(name) for name in chosen} - {""}
        best = max(
            rest, key=lambda name: (rows[rest[name]].sum(), name == ISO, _day_order(name) in map(_day_order, chosen))
        )
        if not rest[best].any():
            break
        rivals = [
            name for name in rest if (rest[name] == rest[best]).all() and _differ(readings, name, best, rest[best])
        ]
        known_order = {_day_order(name) for name in chosen} - {""}
        rivals = [name for name in rivals if not known_order or _day_order(name) in known_order]
        if (rivals and best != ISO) or any(_differ(readings, name, best, fits[name] & fits[best]) for name in chosen):
            undecided = [best, *(rivals or chosen)]
        elif orders and _day_order(best) not in (*orders, ""):
            undecided = [*chosen, best]
        chosen.append(best)
        covered |= rest[best]
        if undecided:
            break
    share = float(rows[covered].sum() / rows.sum())
    if share < MIN_SHARE:
        return None
    excluded = {
        name: tried[int(np.argmin(fits[name]))]
        for name in fits
        if not fits[name].all() and name not in chosen and any(_is_similar(name, best) for best in chosen)
    }
    times = [time for name in (*chosen, *undecided) for time in readings[name] if time is not None]
    declared = dict.fromkeys(ISO_FORMAT if name == ISO else name for name in chosen)
    return TimeCandidates(
        formats=() if undecided else tuple(declared),
        undecided=tuple(undecided),
        excluded=excluded,
        share=share,
        failing=tuple(tried[i] for i in np.flatnonzero(~covered)[:5]),
        has_clock=any(time.has_time for time in times),
        has_zone=all(abs(time.offset_ms) <= _DAY_S * 1000 for time in times),
        is_iso=chosen == [ISO],
    )


def _differ(readings: Mapping[str, list[ClockTime | None]], a: str, b: str, where: Flags) -> bool:
    return any(readings[a][i] != readings[b][i] for i in np.flatnonzero(where))


def _day_order(name: str) -> str:
    """Whether the day is before the month in a format of digits; empty for others, which cannot be confused."""
    if name == ISO or "%m" not in name or name.startswith("%Y"):
        return ""
    return "day first" if name.index("%d") < name.index("%m") else "month first"


def _is_similar(name: str, best: str) -> bool:
    """The same directives in another order: day and month, or day and year, change places."""
    return sorted(name.replace("/", "-").replace(".", "-")) == sorted(best.replace("/", "-").replace(".", "-"))


@lru_cache(1)
def _compiled() -> tuple[TimeFormat, ...]:
    texts = [*_OTHERS, *_DATES]
    for date, clock, join in product(_DATES, _CLOCKS, _JOINS):
        texts += [f"{date}{join}{clock}{zone}" for zone in (_ZONES if clock.startswith("%H:%M") else ("",))]
    texts += [f"%Y%m%d{clock}" for clock in ("%H%M", "%H%M%S")]
    return tuple(compile_format(text) for text in dict.fromkeys(texts))


def epoch_candidates(numbers: Floats) -> TimeCandidates | None:
    """Seconds, milliseconds or microseconds since 1970 by their size; None when the numbers are none of these.

    numbers: shape (n,), finite.
    """
    low, high = _EPOCH_S
    for name, unit in _UNITS.items():
        if len(numbers) and low * unit <= numbers.min() and numbers.max() < high * unit:
            return TimeCandidates((name,), (), {}, 1.0, (), True, True)
    return None


def excel_candidates(numbers: Floats) -> TimeCandidates | None:
    """Excel's serial dates by their size: days since 1899-12-30. numbers: shape (n,), finite."""
    low, high = _EXCEL_DAYS
    if not len(numbers) or numbers.min() < low or numbers.max() >= high:
        return None
    return TimeCandidates(("excel",), (), {}, 1.0, (), bool((numbers % 1 != 0).any()), False)


def offset_candidates(numbers: Floats) -> TimeCandidates | None:
    """Seconds or hours since an unknown instant: the unit with which the file spans days to years.

    numbers: shape (n,), finite. None when they decrease or span too little.
    """
    if not len(numbers) or numbers.min() < 0 or (np.diff(numbers) < 0).any() or numbers[0] == numbers[-1]:
        return None
    low, high = _OFFSET_SPAN_DAYS
    span = float(numbers[-1] - numbers[0])
    fitting = [name for name, unit in _OFFSET_UNITS_S.items() if low <= span * unit / _DAY_S <= high]
    if not fitting:
        return None
    chosen = tuple(fitting) if len(fitting) == 1 else ()
    return TimeCandidates(chosen, () if chosen else tuple(fitting), {}, 1.0, (), True, True)


def offset_spans(numbers: Floats) -> str:
    """The span of a file under each unit of an offset, for people."""
    span = float(numbers[-1] - numbers[0])
    return ", ".join(f"{span * unit / _DAY_S:.3g} days as {name}" for name, unit in _OFFSET_UNITS_S.items())
