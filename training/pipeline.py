"""The one story of training, from a labelled file to the champion.

clean -> split by time -> fit -> choose operating points -> profile -> bundle -> register -> promote
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from monitoring.profile import reference_profile
from schemas.dataset import Dataset, load_dataset
from schemas.decision import OUTCOMES, OperatingPoints, outcome_codes
from schemas.features import featurize, fit_encoding
from schemas.manifest import Manifest
from schemas.settings import Settings
from training import registry
from training.fitting import FitConfig, Part, fit, golden_rows, predict, write_bundle
from training.history import History, read_history
from training.operating_points import points_by_budget
from training.provenance import git_commit, tamiz_version
from training.splitting import require_both_classes, split_by_time

UNGATED = "promoted without a skill gate"


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """What training did; `tamiz train --json` writes it."""

    model: str
    version: int
    previous_champion: int | None
    verdict: str
    rows: int  # in the file
    rejected: dict[str, int]  # rejection code -> rows
    unlabelled: int
    parts: dict[str, int]  # rows of train, validation and test
    base_rate: float  # share of fraud among the training rows
    trees: int
    points: OperatingPoints
    metrics: dict[str, float]  # on test rows only
    data_sha256: str
    git_commit: str | None
    seconds: float
    mlflow_ui: str


def train(
    settings: Settings, path: Path, *, config: FitConfig | None = None, stage: Callable[[str], None] = lambda name: None
) -> Trained:
    """Train on a labelled file, register the version and make it champion.

    stage: told the name of each step as it begins.
    Raises TrainingError when the file cannot train a model, ModelUnavailable when the registry cannot be reached.
    """
    started = time.perf_counter()
    config = config or FitConfig()
    dataset = load_dataset(settings.dataset)

    stage("reading and cleaning")
    history = read_history(path, dataset)
    split = split_by_time(history.event_time_ms)
    require_both_classes(split, history.fraud)

    stage("opening the registry")  # before the work, so that it is not done in vain
    registry.ensure_reachable(settings)

    stage("fitting")
    seen = history.columns_at(split.train)
    encoding = fit_encoding(dataset, seen)
    matrix = featurize(encoding, history.columns)
    learned, chosen = (Part(matrix=matrix[rows], fraud=history.fraud[rows]) for rows in (split.train, split.validation))
    booster = fit(learned, chosen, encoding, config)

    stage("choosing operating points")
    scores = predict(booster, matrix)
    points = points_by_budget(scores[split.validation])
    metrics = _metrics(history.fraud[split.test], scores[split.test], points)

    stage("registering")
    held_out = np.concatenate([split.validation, split.test])
    profile = reference_profile(encoding, seen, learned.matrix, scores[held_out])
    times = history.event_time_ms[split.train]
    manifest = Manifest(
        model=settings.model,
        dataset=dataset.name,
        features=encoding,
        points=points,
        profile=profile,
        golden=(),
        rows=len(split.train),
        base_rate=float(learned.fraud.mean()),
        trained_from_ms=int(times[0]),
        trained_until_ms=int(times[-1]),
        data_sha256=history.sha256,
        model_sha256="",
    )
    commit = git_commit()
    with tempfile.TemporaryDirectory(prefix="tamiz-bundle-") as folder:
        bundle = Path(folder)
        write_bundle(bundle, booster, manifest, golden_rows(encoding, matrix, scores))
        version = registry.register(
            settings, bundle, metrics=metrics, params=_params(dataset, config, history), tags=_tags(history, commit)
        )
    promotion = registry.promote(settings, version, UNGATED)

    return Trained(
        model=settings.model,
        version=version,
        previous_champion=promotion.previous,
        verdict=UNGATED,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        parts={name: len(rows) for name, rows in split._asdict().items()},
        base_rate=manifest.base_rate,
        trees=booster.num_boosted_rounds(),
        points=points,
        metrics=metrics,
        data_sha256=history.sha256,
        git_commit=commit,
        seconds=round(time.perf_counter() - started, 2),
        mlflow_ui=registry.ui_command(settings),
    )


def _metrics(
    fraud: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], points: OperatingPoints
) -> dict[str, float]:
    shares = np.bincount(outcome_codes(scores, points), minlength=len(OUTCOMES)) / len(scores)
    return {
        "test_roc_auc": float(roc_auc_score(fraud, scores)),
        "test_average_precision": float(average_precision_score(fraud, scores)),
        "test_log_loss": float(log_loss(fraud, scores)),
        "test_base_rate": float(fraud.mean()),
        **{f"test_{outcome}_share": float(share) for outcome, share in zip(OUTCOMES, shares, strict=True)},
    }


def _params(dataset: Dataset, config: FitConfig, history: History) -> dict[str, object]:
    return {"dataset": dataset.name, "file": history.path.name, **msgspec.structs.asdict(config)}


def _tags(history: History, commit: str | None) -> dict[str, str]:
    tags = {
        "data_sha256": history.sha256,
        "rows": str(history.rows),
        "version": tamiz_version(),
        "verdict": UNGATED,
    }
    return tags | ({"git_commit": commit} if commit else {})
