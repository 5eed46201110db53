"""`make bench-rare-fraud`: how well models learn rare fraud, by the way in which they are fitted.

Compared on two shapes of histories with different numbers of frauds (`rare_fraud_shapes`): early stopping on one
validation part, as Tamiz did before; out-of-fold rounds and a refit to all rows (`training.model.cross_fit`); and the
latter with other hyperparameters. Each model is fitted to the rows before the last 20 days and measured on these days;
the review point is chosen for 2 % of the rows. The last columns say what a training costs.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import xgboost as xgb
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from benchmarks.components.rare_fraud_shapes import Shape, application, terminals
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Indices
from scoring.features import featurize, fit_encoding
from training.model.cross_fit import cross_fit
from training.model.fit import Boosting, FitConfig, Part, margins, predict
from training.model.operating_points import PointPolicy, choose_points
from training.model.probability_calibration import fit_calibration

HELD_OUT_DAYS = 20
VALIDATION_SHARE, TEST_SHARE = 0.15, 0.15  # of the former split; its test rows were not fitted to
FORMER = FitConfig(max_depth=5, min_child_weight=5.0, max_bin=256, max_rounds=300)


class Outcome(NamedTuple):
    """A model's scores of the held-out days, and what it took."""

    scores: Floats
    review: float
    trees: int
    seconds: float


class Result(NamedTuple):
    """Metrics on the held-out days."""

    roc_auc: float
    average_precision: float
    log_loss: float
    review_share: float
    trees: float
    seconds: float


Method = Callable[[Shape, Indices, Indices], Outcome]


def one_validation_part(shape: Shape, past: Indices, later: Indices) -> Outcome:
    """The former way: early stopping, calibration and operating points on one part; the newest rows are not learned."""
    started = time.perf_counter()
    times = shape.event_time_ms[past]
    validation, test = (int(len(past) * share) for share in (1 - VALIDATION_SHARE - TEST_SHARE, 1 - TEST_SHARE))
    train = past[times <= times[validation] - shape.gap_ms] if shape.gap_ms else past[:validation]
    chosen = past[validation:test]
    encoding = fit_encoding(shape.dataset, {name: values[train] for name, values in shape.columns.items()})
    matrix = featurize(encoding, shape.columns)
    boosting = Boosting(Part(matrix=matrix[train], fraud=shape.fraud[train]), encoding, FORMER, matrix[chosen])
    fraud, losses = shape.fraud[chosen], list[float]()
    while len(losses) < min(FORMER.max_rounds, int(np.argmin([*losses, np.inf])) + 1 + FORMER.early_stopping_rounds):
        boosting.grow()
        z = boosting.held_out_margins()
        losses.append(float(np.sum(np.logaddexp(0, z) - fraud * z)))
    rounds = int(np.argmin(losses)) + 1
    calibration = fit_calibration(margins(boosting.booster, matrix[chosen], rounds), fraud)
    scores = calibration.apply(margins(boosting.booster, matrix, rounds))
    choice = choose_points(fraud, scores[chosen], PointPolicy())
    return Outcome(scores[later], choice.points.review, rounds, time.perf_counter() - started)


def out_of_fold(**changes: object) -> Method:
    """The present way, with these changes of the configuration."""
    config = msgspec.structs.replace(FitConfig(), **changes)

    def fit(shape: Shape, past: Indices, later: Indices) -> Outcome:
        started = time.perf_counter()
        final = past
        if shape.gap_ms:
            final = past[shape.event_time_ms[past] <= shape.event_time_ms[later[0]] - shape.gap_ms]
        fitted = cross_fit(
            shape.dataset,
            {name: values[final] for name, values in shape.columns.items()},
            shape.fraud[final],
            shape.event_time_ms[final],
            config=config,
            points=PointPolicy(),
            gap_ms=shape.gap_ms,
        )
        seconds = time.perf_counter() - started
        matrix = featurize(fitted.encoding, {name: values[later] for name, values in shape.columns.items()})
        booster: xgb.Booster = fitted.booster
        return Outcome(predict(booster, matrix), fitted.choice.points.review, booster.num_boosted_rounds(), seconds)

    return fit


METHODS: dict[str, Method] = {
    "one validation part (before)": one_validation_part,
    "out of fold + refit, same trees": out_of_fold(max_depth=5, min_child_weight=5.0, max_bin=256),
    "out of fold + refit (now)": out_of_fold(),
    "now, 256 bins": out_of_fold(max_bin=256),
    "now, depth 5": out_of_fold(max_depth=5),
    "now, depth 2": out_of_fold(max_depth=2),
    "now, min_child_weight 1": out_of_fold(min_child_weight=1.0),
    "now, min_child_weight 5": out_of_fold(min_child_weight=5.0),
}
SHAPES: dict[str, Callable[[int], Shape]] = {
    "terminals, 20 frauds": lambda seed: terminals(seed, cards=200, level=0.03),
    "terminals, 70 frauds": lambda seed: terminals(seed, cards=200, level=0.1),
    "terminals, 200 frauds": lambda seed: terminals(seed, cards=300, level=0.4),
    "terminals, 1,000 frauds": lambda seed: terminals(seed, cards=400, level=1.0),
    "terminals, 2,500 frauds": lambda seed: terminals(seed, cards=800, level=1.5),
    "application, 40 frauds": lambda seed: application(seed, rows=25_000, rate=0.002),
    "application, 150 frauds": lambda seed: application(seed, rows=25_000, rate=0.008),
    "application, 500 frauds": lambda seed: application(seed, rows=60_000, rate=0.01),
    "application, 2,000 frauds": lambda seed: application(seed, rows=60_000, rate=0.04),
}


def main() -> None:
    """Print a table for each history."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="histories whose name contains this text")
    options = parser.parse_args()
    console = Console(width=130)
    for name, make in SHAPES.items():
        if options.only in name:
            console.print(compare(name, make, range(options.seeds)))


def compare(name: str, make: Callable[[int], Shape], seeds: range) -> Table:
    """Mean metrics of every method over the seeds whose held-out days have fraud."""
    found: dict[str, list[Result]] = {method: [] for method in METHODS}
    frauds, rows = [], []
    for seed in seeds:
        shape = make(seed)
        start = int(shape.event_time_ms[-1]) // DAY_MS * DAY_MS - (HELD_OUT_DAYS - 1) * DAY_MS
        past, later = np.split(np.arange(len(shape.fraud)), [int(np.searchsorted(shape.event_time_ms, start))])
        if not shape.fraud[later].any():
            continue
        frauds.append(shape.fraud[past].sum())
        rows.append(len(past))
        for method, fit in METHODS.items():
            found[method].append(measure(fit(shape, past, later), shape.fraud[later]))
    table = Table(
        title=f"{name}: {np.mean(frauds):.0f} frauds in {np.mean(rows):,.0f} rows, mean of {len(rows)} seeds",
        title_justify="left",
    )
    for column in (
        "",
        "ROC AUC",
        "average precision",
        "log loss",
        "review share, lowest to highest",
        "trees",
        "seconds",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for method, results in found.items():
        mean = Result(*np.mean(results, axis=0))
        shares = [result.review_share for result in results]
        table.add_row(
            method,
            f"{mean.roc_auc:.4f}",
            f"{mean.average_precision:.4f}",
            f"{mean.log_loss:.5f}",
            f"{mean.review_share:.2%} ({min(shares):.2%} to {max(shares):.2%})",
            f"{mean.trees:.0f}",
            f"{mean.seconds:.1f}",
        )
    return table


def measure(outcome: Outcome, fraud: Floats) -> Result:
    """Metrics of a model on the held-out days."""
    return Result(
        roc_auc=float(roc_auc_score(fraud, outcome.scores)),
        average_precision=float(average_precision_score(fraud, outcome.scores)),
        log_loss=float(log_loss(fraud, outcome.scores)),
        review_share=float(np.mean(outcome.scores >= outcome.review)),
        trees=outcome.trees,
        seconds=outcome.seconds,
    )


if __name__ == "__main__":
    main()
