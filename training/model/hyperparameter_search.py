"""Random search of XGBoost hyperparameters with time-series cross-validation.

Candidates are evaluated on train rows only, never on test rows or the backtest's days. Each fold tests on rows that are
later than those it trains on, with as many trees as the other folds choose. The best of many candidates looks good by
chance; it replaces the current configuration only when its gain is significant after a Bonferroni correction for the
number of candidates.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from schemas.dataset.declaration import Dataset
from schemas.errors import TrainingError
from scoring.arrays import Columns, Floats, Ints
from training.data.time_split import expanding_folds, require_both_classes
from training.evaluation.bootstrap import CONFIDENCE, Interval, bounds, resample_weights
from training.evaluation.metrics import RankedRows, measure, rank
from training.model.cross_validation import Fold, cross_validate, make_folds
from training.model.fit import FitConfig

N_FOLDS = 4
SELECTION_METRIC = "roc_auc"  # as in promotion; resampling and weights shift probabilities but do not change it
MIN_ROC_AUC_GAIN = 0.002  # a smaller gain does not justify another configuration
TAIL_RESAMPLES = 4000  # a Bonferroni bound is far in the tail and needs more than the usual `RESAMPLES`


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate and its result."""

    config: FitConfig
    roc_auc: tuple[float, ...]  # on each fold's test rows

    @property
    def mean(self) -> float:
        """Mean ROC AUC over the folds."""
        return float(np.mean(self.roc_auc))


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """All candidates and the chosen configuration; the run's `search.json`."""

    trials: tuple[Trial, ...]  # the first is the current configuration
    seed: int
    config: FitConfig  # the chosen one
    gain: Interval | None  # ROC AUC of the best candidate minus the first; None when cross-validation was impossible
    summary: str  # one sentence for people


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
    """Evaluate `config` and `trials` random candidates by cross-validation.

    columns: cleaned columns of the train rows, each of shape (n,); fraud (0 or 1) and event_time_ms:
    shape (n,). config: the current configuration; its seed draws the candidates. gap_ms: the label delay, kept free
    between training and test rows. progress: called with the number of evaluated configurations and their total.
    When the rows are too few for cross-validation, the result keeps `config` and its summary states why.
    """
    rng = np.random.default_rng(config.seed)
    candidates = [config, *(random_candidate(config, rng) for _ in range(trials))]
    try:
        splits = expanding_folds(event_time_ms, N_FOLDS, gap_ms=gap_ms)
        for split in splits:
            require_both_classes(split, fraud)
        folds = make_folds(dataset, columns, fraud, splits)
    except TrainingError as error:
        summary = f"Cross-validation was not possible: {error}."
        return SearchResult(trials=(), seed=config.seed, config=config, gain=None, summary=summary)
    scored: list[list[RankedRows]] = []
    for done, candidate in enumerate(candidates):
        progress(done, len(candidates))
        scored.append(_ranked(folds, candidate))
    results = tuple(
        Trial(
            config=c,
            roc_auc=tuple(float(measure(r, names=(SELECTION_METRIC,))[SELECTION_METRIC][0]) for r in ranked),
        )
        for c, ranked in zip(candidates, scored, strict=True)
    )
    best = int(np.argmax([trial.mean for trial in results]))
    value = results[best].mean - results[0].mean
    gain = _gain(scored[best], scored[0], value, 1 - (1 - CONFIDENCE) / trials, config.seed)
    wins = gain.low > 0 and gain.value >= MIN_ROC_AUC_GAIN
    summary = (
        f"The best of {trials} candidates changes ROC AUC by {gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}, "
        f"Bonferroni-corrected) on {len(folds)} folds: " + ("adopted." if wins else "not significant, not adopted.")
    )
    return SearchResult(
        trials=results, seed=config.seed, config=candidates[best] if wins else config, gain=gain, summary=summary
    )


def random_candidate(config: FitConfig, rng: np.random.Generator) -> FitConfig:
    """A candidate: tree shape, regularisation and sampling at random, weights in half of them, resampling in a third.

    Parameters that span decades are drawn log-uniformly and rounded to three significant digits.
    Source: Bergstra & Bengio (2012), Random Search for Hyper-Parameter Optimization.
    """

    def log_uniform(low: float, high: float) -> float:
        return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}")

    return msgspec.structs.replace(
        config,
        max_depth=int(rng.integers(2, 9)),
        learning_rate=log_uniform(0.02, 0.3),
        min_child_weight=log_uniform(1, 50),
        reg_lambda=log_uniform(0.1, 50),
        reg_alpha=log_uniform(0.001, 10),
        subsample=float(rng.choice([0.6, 0.8, 1.0])),
        colsample_bytree=float(rng.choice([0.5, 0.8, 1.0])),
        scale_pos_weight=float(rng.choice([1.0, 1.0, 3.0, 10.0])),
        resampling=str(rng.choice(["none", "none", "none", "none", "down", "smote"])),
        resampled_share=float(rng.choice([0.1, 0.2, 0.4])),
    )


def _ranked(folds: tuple[Fold, ...], config: FitConfig) -> list[RankedRows]:
    """The test rows of each fold, ranked by trees whose number its own test rows have not influenced."""
    validation = cross_validate(folds, config)
    return [rank(fold.test.fraud, validation.margins(k, validation.rounds_without(k))) for k, fold in enumerate(folds)]


def _gain(these: list[RankedRows], others: list[RankedRows], value: float, confidence: float, seed: int) -> Interval:
    """Difference of the folds' mean ROC AUC, by a bootstrap that is paired within each fold."""
    differences = []
    for k, (this, other) in enumerate(zip(these, others, strict=True)):
        chunks = [
            measure(this, weights, (SELECTION_METRIC,))[SELECTION_METRIC]
            - measure(other, weights, (SELECTION_METRIC,))[SELECTION_METRIC]
            for weights in resample_weights(this.n, TAIL_RESAMPLES, seed + k)
        ]
        differences.append(np.concatenate(chunks))
    return Interval(value, *bounds(value, np.mean(differences, axis=0), confidence))
