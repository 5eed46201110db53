"""The search for better settings of the trees, which has to prove that it found some.

Every candidate is judged by time-series cross-validation within the past that training may see: never on test rows, nor
on the backtest's week. The best of many looks good by luck alone; it takes the place of the settings at hand only when
its gain is sure beyond that luck.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.arrays import Columns, Floats, Ints, Matrix
from scoring.bundle.manifest import FeatureEncoding
from scoring.features import featurize, fit_encoding
from training.data.time_split import expanding_folds, require_both_classes
from training.evaluation.bootstrap import CONFIDENCE, Interval, bounds, resample_weights
from training.evaluation.metrics import Ranked, measure, rank
from training.model.fit import FitConfig, Part, fit, predict

FOLDS = 4
JUDGED_BY = "roc_auc"  # as promotion is; resampling and weights, which shift probabilities, do not touch it
MIN_GAIN = 0.002  # of ROC AUC: less is not worth another configuration
RESAMPLES = 4000  # a Bonferroni bound lies far out in the tail
PATIENT_ROUNDS = 1000  # slow learners need more trees


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate and how it did."""

    config: FitConfig
    roc_auc: tuple[float, ...]  # on each fold's later rows

    @property
    def mean(self) -> float:
        """Over the folds."""
        return float(np.mean(self.roc_auc))


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried and what came of it; `search.json` of the run."""

    trials: tuple[Trial, ...]  # the first is the configuration at hand
    seed: int
    adopted: FitConfig
    gain: Interval | None  # of the best candidate over the first, in ROC AUC; None when there was nothing to judge on
    summary: str  # for people


class Fold(NamedTuple):
    """A stretch of the past to be judged on, with what came before it to learn from."""

    train: Part
    validation: Part  # to stop on
    encoding: tuple[FeatureEncoding, ...]  # from the train rows alone
    matrix: Matrix
    fraud: Floats


def search(
    dataset: Dataset,
    columns: Columns,
    fraud: Floats,
    event_time_ms: Ints,
    *,
    trials: int,
    config: FitConfig,
    gap_ms: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> SearchResult:
    """Try `trials` candidates beside `config`, drawn with its seed.

    columns: cleaned, each of shape (n,), as are fraud (0, 1) and event_time_ms: the rows of train and validation.
    gap_ms: how long labels take to be final. progress: told how many configurations are judged, and of how many.
    """
    rng = np.random.default_rng(config.seed)
    candidates = [config, *(draw(config, rng) for _ in range(trials))]
    try:
        folds = _folds(dataset, columns, fraud, event_time_ms, gap_ms)
    except TrainingError as error:
        told = f"No candidate could be judged by cross-validation: {error}."
        return SearchResult(trials=(), seed=config.seed, adopted=config, gain=None, summary=told)
    scored: list[list[Ranked]] = []
    for done, candidate in enumerate(candidates):
        progress(done, len(candidates))
        scored.append([rank(fold.fraud, _scores(fold, candidate)) for fold in folds])
    tried = tuple(
        Trial(config=c, roc_auc=tuple(float(measure(r, names=(JUDGED_BY,))[JUDGED_BY][0]) for r in ranked))
        for c, ranked in zip(candidates, scored, strict=True)
    )
    best = int(np.argmax([trial.mean for trial in tried]))
    gain = _gain(scored[best], scored[0], tried[best].mean - tried[0].mean, 1 - (1 - CONFIDENCE) / trials, config.seed)
    wins = gain.low > 0 and gain.value >= MIN_GAIN
    told = (
        f"The best of {trials} candidates gains {gain.value:+.4f} of ROC AUC ({gain.low:+.4f} to {gain.high:+.4f}, "
        f"corrected for their number) on {len(folds)} folds: " + ("adopted." if wins else "not surely, so not adopted.")
    )
    return SearchResult(
        trials=tried, seed=config.seed, adopted=candidates[best] if wins else config, gain=gain, summary=told
    )


def draw(config: FitConfig, rng: np.random.Generator) -> FitConfig:
    """A candidate: tree shape, regularisation and sampling at random, weights in half of them, resampling in a third.

    Numbers that span decades are drawn on the scale of their logarithm, and all are short to write down.
    """

    def between(low: float, high: float) -> float:
        return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}")

    return msgspec.structs.replace(
        config,
        rounds=PATIENT_ROUNDS,
        max_depth=int(rng.integers(2, 9)),
        learning_rate=between(0.02, 0.3),
        min_child_weight=between(1, 50),
        reg_lambda=between(0.1, 50),
        reg_alpha=between(0.001, 10),
        subsample=float(rng.choice([0.6, 0.8, 1.0])),
        colsample_bytree=float(rng.choice([0.5, 0.8, 1.0])),
        scale_pos_weight=float(rng.choice([1.0, 1.0, 3.0, 10.0])),
        resampling=str(rng.choice(["none", "none", "none", "none", "down", "smote"])),
        resampled_share=float(rng.choice([0.1, 0.2, 0.4])),
    )


def _folds(
    dataset: Dataset,
    columns: Columns,
    fraud: Floats,
    event_time_ms: Ints,
    gap_ms: int,
) -> list[Fold]:
    found = []
    for split in expanding_folds(event_time_ms, FOLDS, gap_ms=gap_ms):
        require_both_classes(split, fraud)
        encoding = fit_encoding(dataset, {name: values[split.train] for name, values in columns.items()})
        train, validation, test = (
            Part(
                matrix=featurize(encoding, {name: values[rows] for name, values in columns.items()}),
                fraud=fraud[rows],
            )
            for rows in split
        )
        found.append(Fold(train, validation, encoding, test.matrix, test.fraud))
    return found


def _scores(fold: Fold, config: FitConfig) -> Floats:
    return predict(fit(fold.train, fold.validation, fold.encoding, config), fold.matrix)


def _gain(these: list[Ranked], others: list[Ranked], value: float, confidence: float, seed: int) -> Interval:
    """The difference of the folds' mean ROC AUC, both on the same resamples of each fold's rows."""
    differences = []
    for k, (this, other) in enumerate(zip(these, others, strict=True)):
        chunks = [
            measure(this, weights, (JUDGED_BY,))[JUDGED_BY] - measure(other, weights, (JUDGED_BY,))[JUDGED_BY]
            for weights in resample_weights(this.n, RESAMPLES, seed + k)
        ]
        differences.append(np.concatenate(chunks))
    return Interval(value, *bounds(value, np.mean(differences, axis=0), confidence))
