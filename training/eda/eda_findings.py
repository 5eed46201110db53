"""EDA findings: fraud rate per feature level and associations between columns, each with its confidence interval.

Intervals and corrected p-values keep readers from taking noise for signal. Column names and kinds come from the data
set's declaration only.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.dataset.missing_columns import MissingColumn
from scoring.arrays import Columns, Floats, Ints
from scoring.input.cleaning import is_missing
from training.data.history import History
from training.data.time_range import TimeRange
from training.eda.association import Strength, correlation, cramers_v, holm, independence_p_value
from training.eda.discretization import Cut, Levels, discretize
from training.model.operating_points import wilson

ALPHA = 0.05  # significance level of adjusted p-values
MIN_STRENGTH = 0.1  # a significant association weaker than this gets no sentence of its own

Measure = Literal["Pearson's r", "Cramér's V"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Fraud rate of the rows at one level, with Wilson's 95 % interval."""

    level: str
    rows: int
    frauds: int
    rate: float
    low: float
    high: float


class FeatureRates(msgspec.Struct, frozen=True, kw_only=True):
    """Fraud rate at each level of one feature."""

    feature: str
    cut: Cut  # how the feature was cut into levels
    rates: tuple[Rate, ...]
    p_value: float  # chi-squared test of independence between fraud and the feature
    p_adjusted: float  # after Holm's correction for all features


class Association(msgspec.Struct, frozen=True, kw_only=True):
    """Strength of the association between two columns, with its 95 % interval."""

    a: str
    b: str
    measure: Measure
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float  # after Holm's correction for all pairs of this measure


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """All findings about one history."""

    dataset: str
    file: str
    sha256: str
    rows: int  # in the file
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int
    time_range: TimeRange
    fraud: Rate  # of all accepted and labelled rows
    missing: dict[str, float]  # feature -> share of rows without a value, features without gaps left out
    constant: dict[str, str]  # feature -> its only value
    rates: tuple[FeatureRates, ...]  # in the declaration's order
    associations: tuple[Association, ...]  # grouped by measure, strongest first
    summaries: tuple[str, ...]  # one sentence per finding
    missing_columns: tuple[MissingColumn, ...] = ()  # declared columns that the file lacks


def compute_findings(history: History, dataset: Dataset) -> Findings:
    """Compute the findings of a history. The history must hold fraud and legitimate rows."""
    columns = {f.name: history.columns[f.name] for f in dataset.features}
    levels = {f.name: discretize(columns[f.name], f.kind) for f in dataset.features}
    constant = {name: cut.names[0] for name, cut in levels.items() if len(cut.names) == 1}
    varying = {name: cut for name, cut in levels.items() if name not in constant}
    label = dataset.label or "fraud"
    numbers = {f.name: columns[f.name] for f in dataset.features if f.kind != "category"}
    categories = {f.name: varying[f.name].codes for f in dataset.features if f.kind == "category" and f.name in varying}
    found = Findings(
        dataset=dataset.name,
        file=history.source,
        sha256=history.sha256,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        time_range=history.time_range,
        fraud=_rate("all", len(history.fraud), int(history.fraud.sum())),
        missing={name: share for name, c in columns.items() if (share := float(is_missing(c).mean()))},
        constant=constant,
        rates=_rates(varying, history.fraud),
        associations=(
            *_associations({**numbers, label: history.fraud}, correlation, "Pearson's r"),
            *_associations({**categories, label: history.fraud.astype(np.int64)}, _cramers_v_of_codes, "Cramér's V"),
        ),
        summaries=(),
        missing_columns=history.missing_columns,
    )
    return msgspec.structs.replace(found, summaries=tuple(_summaries(found)))


def _rates(levels: Mapping[str, Levels], fraud: Floats) -> tuple[FeatureRates, ...]:
    counted = []
    for cut in levels.values():
        rows = np.bincount(cut.codes)
        frauds = np.bincount(cut.codes, fraud).astype(np.int64)
        counted.append((rows, frauds, independence_p_value(np.column_stack([rows - frauds, frauds]))))
    adjusted = holm([p for *_, p in counted])
    return tuple(
        FeatureRates(
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


def _cramers_v_of_codes(a: Ints, b: Ints) -> Strength | None:
    width = int(b.max()) + 1
    return cramers_v(np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).reshape(-1, width))


def _associations(
    columns: Columns, strength: Callable[[Any, Any], Strength | None], measure: Measure
) -> list[Association]:
    """Every pair for which the measure is defined, strongest first."""
    strengths = [
        (a, b, found) for a, b in combinations(columns, 2) if (found := strength(columns[a], columns[b])) is not None
    ]
    adjusted = holm([found.p_value for *_, found in strengths])
    pairs = [
        Association(a=a, b=b, measure=measure, p_adjusted=p, **found._asdict())
        for (a, b, found), p in zip(strengths, adjusted, strict=True)
    ]
    return sorted(pairs, key=lambda pair: -abs(pair.value))


def _summaries(found: Findings) -> Iterator[str]:
    total = found.fraud
    yield f"{total.rows:,} labelled transactions, {total.frauds:,} of them fraud: {format_rate(total)}."
    yield f"Event times: {found.time_range.summary}."
    for of in found.rates:
        if of.cut == "zero or not":
            yield _nonzero_summary(of, found.fraud.rows)
    significant = [of for of in found.rates if of.p_adjusted < ALPHA]
    for of in significant:
        low, high = (choose(of.rates, key=lambda r: r.rate) for choose in (min, max))
        yield (
            f"The fraud rate differs by {of.feature}: {format_rate(high)} at {high.level}, {format_rate(low)} at "
            f"{low.level} ({format_p_value(of.p_adjusted)} after Holm's correction for {len(found.rates)} features)."
        )
    if found.rates and not significant:
        least = min(found.rates, key=lambda of: of.p_value)
        yield (
            f"No feature's fraud rate differs significantly between its levels: the smallest p-value of "
            f"{len(found.rates)} tests is {format_p_value(least.p_value)} ({least.feature}), "
            f"{format_p_value(least.p_adjusted)} after Holm's correction."
        )
    for measure in MEASURES:
        pairs = [pair for pair in found.associations if pair.measure == measure]
        significant_pairs = [pair for pair in pairs if pair.p_adjusted < ALPHA]
        strong = [pair for pair in significant_pairs if abs(pair.value) >= MIN_STRENGTH]
        for pair in strong:
            yield (
                f"{pair.a} and {pair.b} are associated: {measure} {pair.value:.2f} ({pair.low:.2f} to {pair.high:.2f})."
            )
        if len(pairs) > len(strong):
            yield (
                f"{'The other ' if strong else ''}{len(pairs) - len(strong)} pairs by {measure}: "
                f"{len(pairs) - len(significant_pairs)} not significant, "
                f"{len(significant_pairs) - len(strong)} significant but weaker than {MIN_STRENGTH:g}."
            )
    for name, value in found.constant.items():
        yield f"{name} is constant ({value}): it carries no information."


def _nonzero_summary(of: FeatureRates, rows: int) -> str:
    """Share of rows with a nonzero amount (a discount, for example), and the fraud rate with and without it."""
    zero, nonzero = (next(rate for rate in of.rates if rate.level == level) for level in ("zero", "not zero"))
    share = _rate("", rows, nonzero.rows)
    return (
        f"{of.feature} is not zero in {format_rate(share)} of the transactions: fraud rate {format_rate(nonzero)} "
        f"there, {format_rate(zero)} where it is zero."
    )


def format_rate(rate: Rate) -> str:
    """Format a rate and its interval.

    >>> format_rate(Rate(level="all", rows=100, frauds=3, rate=0.03, low=0.0103, high=0.0845))
    '3.00 % (1.03 to 8.45 %)'
    """
    return f"{rate.rate * 100:.2f} % ({rate.low * 100:.2f} to {rate.high * 100:.2f} %)"


def format_p_value(p: float) -> str:
    """Format a p-value.

    >>> format_p_value(0.0312), format_p_value(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.1 else f"p = {p:.2f}"
