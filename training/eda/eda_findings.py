"""What a labelled history says, each number with its interval, so that nobody reads noise as signal.

Nothing here knows a column by name: the declaration says which there are and of what kind.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.dataset.declaration import Dataset
from scoring.input.cleaning import is_missing
from training.data.history import History
from training.eda.association import Strength, correlation, cramers_v, holm, independence
from training.eda.discretization import Cut, Levels, discretize
from training.model.operating_points import wilson

ALPHA = 0.05
NOTABLE = 0.1  # an association weaker than this is not worth a sentence, however certain

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Measure = Literal["Pearson's r", "Cramér's V"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Fraud among some rows, with Wilson's 95 % interval."""

    level: str
    rows: int
    frauds: int
    rate: float
    low: float
    high: float


class RatesOf(msgspec.Struct, frozen=True, kw_only=True):
    """Fraud at each level of one feature."""

    feature: str
    cut: Cut  # how the feature was cut into levels
    rates: tuple[Rate, ...]
    p_value: float  # of rates so different, were fraud independent of the feature
    p_adjusted: float  # the same after Holm's correction for all features


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """How strongly two columns hang together, with its 95 % interval."""

    a: str
    b: str
    measure: Measure
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float  # after Holm's correction for all pairs of this measure


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of a history."""

    dataset: str
    file: str
    sha256: str
    rows: int  # in the file
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int
    fraud: Rate  # of all rows that are accepted and labelled
    missing: dict[str, float]  # feature -> share of rows without a value, where there are any
    constant: dict[str, str]  # feature -> its only value
    rates: tuple[RatesOf, ...]  # in the declaration's order
    associations: tuple[Association, ...]  # by measure, strongest first
    summaries: tuple[str, ...]


def compute_findings(history: History, dataset: Dataset) -> Findings:
    """Compute the findings of a history that has both classes."""
    columns = {f.name: history.columns[f.name] for f in dataset.features}
    levels = {f.name: discretize(columns[f.name], f.kind) for f in dataset.features}
    constant = {name: cut.names[0] for name, cut in levels.items() if len(cut.names) == 1}
    varying = {name: cut for name, cut in levels.items() if name not in constant}
    label = str(dataset.label)
    numbers = {f.name: columns[f.name] for f in dataset.features if f.kind != "category"}
    categories = {f.name: varying[f.name].codes for f in dataset.features if f.kind == "category" and f.name in varying}
    found = Findings(
        dataset=dataset.name,
        file=history.source,
        sha256=history.sha256,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        fraud=_rate("all", len(history.fraud), int(history.fraud.sum())),
        missing={name: share for name, c in columns.items() if (share := float(is_missing(c).mean()))},
        constant=constant,
        rates=_rates(varying, history.fraud),
        associations=(
            *_associated({**numbers, label: history.fraud}, correlation, "Pearson's r"),
            *_associated({**categories, label: history.fraud.astype(np.int64)}, _crossed, "Cramér's V"),
        ),
        summaries=(),
    )
    return msgspec.structs.replace(found, summaries=tuple(_summaries(found)))


def _rates(levels: Mapping[str, Levels], fraud: Floats) -> tuple[RatesOf, ...]:
    counted = []
    for cut in levels.values():
        rows = np.bincount(cut.codes)
        frauds = np.bincount(cut.codes, fraud).astype(np.int64)
        counted.append((rows, frauds, independence(np.column_stack([rows - frauds, frauds]))))
    adjusted = holm([p for *_, p in counted])
    return tuple(
        RatesOf(
            feature=name,
            cut=cut.cut,
            rates=tuple(_rate(*level) for level in zip(cut.names, rows.tolist(), frauds.tolist(), strict=True)),
            p_value=p,
            p_adjusted=p_adjusted,
        )
        for (name, cut), (rows, frauds, p), p_adjusted in zip(levels.items(), counted, adjusted, strict=True)
    )


def _rate(level: str, rows: int, frauds: int) -> Rate:
    low, high = wilson(np.array([float(frauds)]), np.array([float(rows)]))
    return Rate(level=level, rows=rows, frauds=frauds, rate=frauds / rows, low=float(low[0]), high=float(high[0]))


def _crossed(a: Ints, b: Ints) -> Strength | None:
    width = int(b.max()) + 1
    return cramers_v(np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width))


def _associated(
    columns: Mapping[str, npt.NDArray[Any]], measured: Callable[[Any, Any], Strength | None], measure: Measure
) -> list[Association]:
    """Every pair for which the measure is defined, strongest first."""
    strengths = [
        (a, b, found) for a, b in combinations(columns, 2) if (found := measured(columns[a], columns[b])) is not None
    ]
    adjusted = holm([found.p_value for *_, found in strengths])
    pairs = [
        Association(a=a, b=b, measure=measure, p_adjusted=p, **found._asdict())
        for (a, b, found), p in zip(strengths, adjusted, strict=True)
    ]
    return sorted(pairs, key=lambda pair: -abs(pair.value))


def _summaries(found: Findings) -> Iterator[str]:
    yield f"{found.fraud.rows:,} labelled transactions, {found.fraud.frauds:,} of them fraud: {interval(found.fraud)}."
    for of in found.rates:
        if of.cut == "zero or not":
            yield _carried(of, found.fraud.rows)
    telling = [of for of in found.rates if of.p_adjusted < ALPHA]
    for of in telling:
        least, most = (choose(of.rates, key=lambda r: r.rate) for choose in (min, max))
        yield (
            f"Fraud differs with {of.feature}: {interval(most)} at {most.level}, {interval(least)} at {least.level} "
            f"({shown_p(of.p_adjusted)} after Holm's correction for {len(found.rates)} features)."
        )
    if found.rates and not telling:
        least_p = min(found.rates, key=lambda of: of.p_value)
        yield (
            f"No feature's fraud rates can be told from noise: of {len(found.rates)} tests the least likely chance is "
            f"{shown_p(least_p.p_value)} ({least_p.feature}), {shown_p(least_p.p_adjusted)} after Holm's correction."
        )
    for measure in MEASURES:
        pairs = [pair for pair in found.associations if pair.measure == measure]
        certain = [pair for pair in pairs if pair.p_adjusted < ALPHA]
        strong = [pair for pair in certain if abs(pair.value) >= NOTABLE]
        for pair in strong:
            yield (
                f"{pair.a} and {pair.b} go together: {measure} {pair.value:.2f} ({pair.low:.2f} to {pair.high:.2f})."
            )
        if len(pairs) > len(strong):
            yield (
                f"{'The other ' if strong else ''}{len(pairs) - len(strong)} pairs by {measure}: "
                f"{len(pairs) - len(certain)} not to be told from noise, "
                f"{len(certain) - len(strong)} certain but below {NOTABLE:g}."
            )
    for name, value in found.constant.items():
        yield f"{name} is {value} throughout: it says nothing."


def _carried(of: RatesOf, rows: int) -> str:
    """How many carry an amount that most do not (a discount, say), and the fraud with and without it."""
    zero, present = (next(rate for rate in of.rates if rate.level == level) for level in ("zero", "not zero"))
    share = _rate("", rows, present.rows)
    return (
        f"{interval(share)} of the transactions carry {of.feature}: fraud {interval(present)} with it, "
        f"{interval(zero)} without."
    )


def interval(rate: Rate) -> str:
    """A rate for people.

    >>> interval(Rate(level="all", rows=100, frauds=3, rate=0.03, low=0.0103, high=0.0845))
    '3.00 % (1.03 to 8.45 %)'
    """
    return f"{rate.rate * 100:.2f} % ({rate.low * 100:.2f} to {rate.high * 100:.2f} %)"


def shown_p(p: float) -> str:
    """A p-value for people.

    >>> shown_p(0.0312), shown_p(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"
