"""The training pipeline: from labelled history to a registered model and, if it is proven better, the champion.

read and clean -> hold out the backtest's days -> split by time -> search hyperparameters (optional) -> fit ->
calibrate probabilities -> choose operating points -> evaluate -> skill gate -> profile and baseline -> bundle ->
register -> compare with the champion -> promote or retain -> report (optional)
"""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.figure import Figure

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import reference_profile
from monitoring.drift.reference import write_reference
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.dataset.missing_columns import refuse_unconsented
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Matrix
from scoring.bundle.feature_definitions import feature_definitions
from scoring.bundle.manifest import Manifest
from scoring.features import featurize, fit_encoding
from training.data.history import History, read_history
from training.data.time_split import require_both_classes, split_by_time
from training.evaluation.backtest import last_days, run_backtest
from training.evaluation.evaluation import Evaluation, evaluate
from training.evaluation.leakage import find_leaks
from training.evaluation.review_ranking import ReviewPlan, review_rows
from training.evaluation.skill_gate import GateResult, evaluate_skill
from training.model.baseline import fit_baseline
from training.model.fit import Part, fit, golden_rows, predict, write_bundle
from training.model.hyperparameter_search import SearchResult, search
from training.model.operating_points import PointChoice, choose_points
from training.model.probability_calibration import ProbabilityCalibration, calibrate_probabilities
from training.model.reproduction import (
    CONFIG_FILE,
    ReproductionTarget,
    RunConfig,
    RunEnvironment,
    TrainingPlan,
    history_source,
)
from training.registry import mlflow_registry
from training.registry.promotion import promote_if_better
from training.reports.figures import draw_evaluation, write_figures
from training.reports.model_report import write_model_report
from training.reports.report_builder import MAX_EXPLAINED_ROWS, report_contents
from training.train_result import ProgressCallback, TrainResult

SEARCH_FILE = "search.json"  # in the run's `evaluation/`
MAX_TAG_LENGTH = 1_000


def train(
    settings: Settings,
    source: Path | History,
    *,
    labels: Path | None = None,
    from_ms: int | None = None,
    until_ms: int | None = None,
    force: str | None = None,
    correlation_id: str | None = None,
    by: str | None = None,
    report: bool = False,
    trials: int = 0,
    backtest_days: int | None = None,
    target: ReproductionTarget | None = None,
    allow_missing: tuple[str, ...] = (),
    progress: ProgressCallback = lambda step, done=0, of=None: None,
) -> TrainResult:
    """Train on labelled history, register the version and promote it to champion if it is proven better.

    source: a file, or a history that was already read.
    labels, from_ms, until_ms: of a file, as for `training.data.history.read_history`; the range is that of `target`.
    force: a person's reason to promote without proof. It is recorded, also in the manifest if the skill gate failed.
    correlation_id: of the retraining request. by: who requested the training; None for the user of the operating
    system. Both are recorded. report: also log the PDF report to the run. trials: number of random hyperparameter
    candidates. backtest_days: whole UTC days to hold out; None for the default. target: a run to reproduce, with its
    plan and on its history. allow_missing: optional columns that may be missing; recorded. progress: called per step.
    Raises TrainingError when the history cannot train a model, ModelUnavailableError when the registry cannot be
    reached.
    """
    started = time.perf_counter()
    plan = target.config.plan if target else TrainingPlan.from_settings(settings, allow_missing)
    if backtest_days is not None:
        plan = msgspec.structs.replace(plan, backtest_days=backtest_days)
    dataset = load_dataset(settings.dataset)
    label_delay_ms = plan.label_delay_days * DAY_MS
    review_plan = ReviewPlan.from_settings(settings, dataset)

    progress("reading and cleaning")
    path = source if isinstance(source, Path) else None
    if target:
        from_ms, until_ms = target.config.source.from_ms, target.config.source.until_ms
    history = (
        source
        if isinstance(source, History)
        else read_history(
            source,
            dataset,
            label_delay_ms,
            labels=labels,
            from_ms=from_ms,
            until_ms=until_ms,
            progress=lambda step, share: progress(step, round(100 * share), 100),
        )
    )
    file = str(source) if isinstance(source, Path) else history.source
    refuse_unconsented(dataset, file, history.missing_columns, plan.allow_missing)
    if target:
        target.require_same_history(history)

    # The backtest's days are held out first, so that no choice below depends on them.
    holdout = last_days(history.event_time_ms, plan.backtest_days)
    past = np.flatnonzero(history.event_time_ms < holdout.edges_ms[0])
    split = split_by_time(
        history.event_time_ms[past],
        validation_share=plan.validation_share,
        test_share=plan.test_share,
        gap_ms=label_delay_ms,
    )
    require_both_classes(split, history.fraud[past])
    train_rows, validation_rows, test_rows = (past[rows] for rows in split)

    progress("checking the registry")  # before the long steps, so that they are not wasted
    mlflow_registry.ensure_reachable(settings)

    search_result: SearchResult | None = None
    if trials:
        search_rows = np.sort(np.concatenate([train_rows, validation_rows]))
        search_result = search(
            dataset,
            history.columns_at(search_rows),
            history.fraud[search_rows],
            history.event_time_ms[search_rows],
            trials=trials,
            config=plan.fit,
            gap_ms=label_delay_ms,
            progress=lambda done, of: progress("cross-validating candidates", done, of),
        )
        plan = msgspec.structs.replace(plan, fit=search_result.config)

    progress("fitting")
    train_columns = history.columns_at(train_rows)
    encoding = fit_encoding(dataset, train_columns)
    matrix = featurize(encoding, history.columns)
    train_part, validation_part = (
        Part(matrix=matrix[rows], fraud=history.fraud[rows]) for rows in (train_rows, validation_rows)
    )
    booster = fit(train_part, validation_part, encoding, plan.fit)

    progress("calibrating probabilities")
    booster, calibration = calibrate_probabilities(booster, validation_part)
    scores = predict(booster, matrix)

    progress("choosing operating points")
    amounts = history.columns[dataset.amount] if dataset.amount else np.full(len(scores), np.nan)
    choice = choose_points(
        history.fraud[validation_rows], scores[validation_rows], plan.points, amounts[validation_rows]
    )

    progress("evaluating")
    evaluation = evaluate(
        history.fraud[test_rows],
        scores[test_rows],
        points=choice.points,
        f2_threshold=choice.f2_threshold,
        costs=plan.points.costs,
        amounts=amounts[test_rows],
        reviews=review_rows(history, test_rows, review_plan),
        reviews_per_day=review_plan.per_day,
        seed=plan.fit.seed,
    )
    gate = evaluate_skill(evaluation, find_leaks(dataset, train_columns, train_part.fraud))
    forced = force is not None and not gate.has_skill

    progress("writing the bundle")
    rejected_rows = sum(history.rejected.values())
    train_times = history.event_time_ms[train_rows]
    manifest = Manifest(
        model=settings.model_name,
        dataset=dataset.name,
        features=encoding,
        definitions=feature_definitions(dataset),
        points=choice.points,
        profile=reference_profile(
            encoding,
            train_columns,
            train_part.matrix,
            scores[np.concatenate([validation_rows, test_rows])],
            review=choice.points.review,
            rejected=rejected_rows,
        ),
        golden=(),  # filled in by `write_bundle`, as `model_sha256`
        rows=len(train_rows),
        base_rate=float(train_part.fraud.mean()),
        trained_from_ms=int(train_times[0]),
        trained_until_ms=int(train_times[-1]),
        data_sha256=history.sha256,
        model_sha256="",
        forced=forced,
    )
    environment = RunEnvironment.current()
    with tempfile.TemporaryDirectory(prefix="tamiz-run-") as scratch:
        bundle, evaluation_folder = Path(scratch) / "bundle", Path(scratch) / "evaluation"
        model = write_bundle(bundle, booster, manifest, golden_rows(encoding, matrix[past], scores[past]))
        baseline = fit_baseline(
            manifest,
            booster,
            history.columns_at(past),
            matrix[past],
            scores[past],
            history.event_time_ms[past],
            held_out=np.isin(past, train_rows, invert=True),
            rejected=rejected_rows,
        )
        write_reference(bundle, baseline)
        figures = _write_evaluation(
            evaluation_folder, evaluation, choice, search_result, model, matrix[test_rows], history.fraud[test_rows]
        )

        progress("registering")
        version = mlflow_registry.register(
            settings,
            bundle,
            report=evaluation_folder,
            metrics=evaluation.metric_values("test_"),
            params=_params(dataset, plan, choice, history, calibration),
            tags=_tags(history, gate, environment, force if forced else None),
        )
        run_config = RunConfig(
            source=history_source(history, path, labels),
            data_sha256=history.sha256,
            model=settings.model_name,
            dataset=settings.dataset,
            plan=plan,
            environment=environment,
            model_sha256=model.manifest.model_sha256,
        )
        _write_json(Path(scratch) / CONFIG_FILE, run_config)
        mlflow_registry.log_artifact(settings, version, Path(scratch) / CONFIG_FILE)

        progress("comparing with the champion")
        model = MonitoredModel.load(bundle, version)
        champion, decision, transition = promote_if_better(
            settings, model, gate, history, holdout, review_plan, force=force, by=by, correlation_id=correlation_id
        )

        if report:
            progress("writing the report")
            contents = report_contents(
                model,
                champion,
                history,
                run_backtest(model, dataset, history, plan.backtest_days, plan=review_plan),
                evaluation=evaluation,
                evaluated_on="the test rows, which are later than all training rows",
                gate=gate,
                status="champion" if transition.change == "promoted" else "challenger",
                comparison=decision.comparison,
                promotion_decision=f"{transition.change} by {transition.by}: {transition.reason}",
                figures=figures,
                now=datetime.now(UTC),
            )
            write_model_report(Path(scratch) / mlflow_registry.REPORT, contents)
            mlflow_registry.log_artifact(settings, version, Path(scratch) / mlflow_registry.REPORT)

    parts = {
        "train": len(train_rows),
        "validation": len(validation_rows),
        "test": len(test_rows),
        "backtest": len(holdout.all_rows),
    }
    return TrainResult(
        model=settings.model_name,
        version=version,
        champion=transition.change == "promoted",
        forced=forced,
        previous_champion=transition.previous,
        gate=gate,
        promotion_decision=decision,
        transition=transition,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        late_labels=history.late_labels,
        outside_range=history.outside_range,
        profile_sources=history.profile_sources,
        time_range=history.time_range,
        missing_columns=history.missing_columns,
        parts=parts | ({"gap": len(history.fraud) - sum(parts.values())} if label_delay_ms else {}),
        base_rate=manifest.base_rate,
        trees=booster.num_boosted_rounds(),
        probability_calibration=calibration,
        search=search_result.summary if search_result else None,
        points=choice.points,
        points_reason=choice.reason,
        evaluation=evaluation,
        data_sha256=history.sha256,
        git_commit=environment.git_commit,
        run_id=mlflow_registry.run_id_of(settings, version),
        reproduction=target.compare(run_config) if target else None,
        seconds=round(time.perf_counter() - started, 2),
        mlflow_ui=mlflow_registry.ui_command(settings),
    )


def _write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    choice: PointChoice,
    search_result: SearchResult | None,
    model: MonitoredModel,
    matrix: Matrix,
    fraud: Floats,
) -> dict[str, Figure]:
    """Write the run's `evaluation/`: metrics, operating points, search result and figures of the test rows."""
    explained = matrix[:: max(1, len(matrix) // MAX_EXPLAINED_ROWS)]
    figures = draw_evaluation(
        fraud,
        model.score(matrix),
        evaluation,
        contributions=model.contributions(explained),
        values=explained,
        names=model.manifest.names,
    )
    write_figures(folder, figures)
    for figure in figures.values():
        figure.set_layout_engine("none")  # the layout is computed; the report may draw the figure again without it
    _write_json(folder / "metrics.json", evaluation)
    _write_json(folder / "operating_points.json", choice)
    if search_result:
        _write_json(folder / SEARCH_FILE, search_result)
    return figures


def _write_json(path: Path, record: msgspec.Struct) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))


def _params(
    dataset: Dataset,
    plan: TrainingPlan,
    choice: PointChoice,
    history: History,
    calibration: ProbabilityCalibration,
) -> dict[str, object]:
    return {
        "dataset": dataset.name,
        "source": history.source,
        "threshold_policy": choice.policy.method,
        "calibration_slope": calibration.slope,
        "calibration_intercept": calibration.intercept,
        **({"allow_missing": ", ".join(plan.allow_missing)} if plan.allow_missing else {}),
        **msgspec.structs.asdict(plan.fit),
    }


def _tags(history: History, gate: GateResult, environment: RunEnvironment, forced: str | None) -> dict[str, str]:
    tags = {
        "data_sha256": history.sha256,
        "rows": str(history.rows),
        "version": environment.tamiz,
        "gate_status": gate.status,
        "gate_summary": gate.summary,
    }
    if gate.leaks:
        tags["suspected_leakage"] = ", ".join(f"{leak.feature} {leak.roc_auc:.4f}" for leak in gate.leaks)[
            :MAX_TAG_LENGTH
        ]
    commit = environment.git_commit
    tags |= {"git_commit": commit} if commit else {}
    return tags | ({"forced": forced or "no reason was given"} if forced is not None else {})
