"""The training pipeline: from labelled history to a registered model and, if it is proven better, the champion.

read and clean -> hold out the backtest's days -> split by time -> search hyperparameters (optional) -> fit to the train
rows, evaluate on the test rows -> skill gate -> fit to all rows before the backtest's days -> profile and baseline ->
bundle -> register -> compare with the champion on the backtest's days -> promote or retain -> report (optional)

A fit (`training.model.cross_fit`) chooses the number of trees, probability calibration and operating points. It is done
twice, in the same way: the first model is evaluated; the second one, which knows the newest frauds, is registered.
"""

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.reference_profile import reference_profile
from monitoring.drift.reference import write_reference
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.dataset.missing_columns import refuse_unconsented
from schemas.time_units import DAY_MS
from scoring.arrays import Indices
from scoring.bundle.feature_definitions import feature_definitions
from scoring.bundle.manifest import Manifest
from scoring.features import featurize
from training.data.history import History, read_history
from training.data.time_split import require_both_classes, split_by_time
from training.evaluation.backtest import run_backtest
from training.evaluation.backtest_window import last_days
from training.evaluation.evaluation import evaluate
from training.evaluation.leakage import find_leaks
from training.evaluation.review_ranking import ReviewPlan, review_rows
from training.evaluation.skill_gate import evaluate_skill
from training.model.baseline import fit_baseline
from training.model.cross_fit import CrossFit, cross_fit
from training.model.fit import golden_rows, predict, write_bundle
from training.model.hyperparameter_search import SearchResult, search
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
from training.reports.model_report import write_model_report
from training.reports.report_builder import report_contents
from training.run_record import run_params, run_tags, write_evaluation, write_json
from training.train_result import ProgressCallback, TrainResult


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
    times = history.event_time_ms
    past = np.flatnonzero(times < holdout.edges_ms[0])
    past = past[np.argsort(times[past], kind="stable")]
    split = split_by_time(times[past], test_share=plan.test_share, gap_ms=label_delay_ms)
    require_both_classes(split, history.fraud[past])
    train_rows, test_rows = (past[rows] for rows in split)
    # As for the train rows: labels that were final when the backtest's days began.
    final_rows = past[times[past] <= holdout.edges_ms[0] - label_delay_ms] if label_delay_ms else past

    progress("checking the registry")  # before the long steps, so that they are not wasted
    mlflow_registry.ensure_reachable(settings)

    search_result: SearchResult | None = None
    if trials:
        search_result = search(
            dataset,
            history.columns_at(train_rows),
            history.fraud[train_rows],
            times[train_rows],
            trials=trials,
            config=plan.fit,
            gap_ms=label_delay_ms,
            progress=lambda done, of: progress("cross-validating candidates", done, of),
        )
        plan = msgspec.structs.replace(plan, fit=search_result.config)

    def fit_to(rows: Indices) -> CrossFit:
        return cross_fit(
            dataset,
            history.columns_at(rows),
            history.fraud[rows],
            times[rows],
            config=plan.fit,
            points=plan.points,
            gap_ms=label_delay_ms,
        )

    progress("fitting to the train rows")
    evaluated = fit_to(train_rows)

    progress("evaluating on the test rows")
    test_columns = history.columns_at(test_rows)
    test_scores = predict(evaluated.booster, featurize(evaluated.encoding, test_columns))
    evaluation = evaluate(
        history.fraud[test_rows],
        test_scores,
        points=evaluated.choice.points,
        f2_threshold=evaluated.choice.f2_threshold,
        costs=plan.points.costs,
        amounts=test_columns[dataset.amount] if dataset.amount else np.full(len(test_rows), np.nan),
        reviews=review_rows(history, test_rows, review_plan),
        reviews_per_day=review_plan.per_day,
        seed=plan.fit.seed,
    )
    gate = evaluate_skill(evaluation, find_leaks(dataset, history.columns_at(train_rows), history.fraud[train_rows]))
    forced = force is not None and not gate.has_skill

    progress("fitting to all rows before the backtest")
    final = fit_to(final_rows)
    final_columns = history.columns_at(final_rows)

    progress("writing the bundle")
    rejected_rows = sum(history.rejected.values())
    manifest = Manifest(
        model=settings.model_name,
        dataset=dataset.name,
        features=final.encoding,
        definitions=feature_definitions(dataset),
        points=final.choice.points,
        profile=reference_profile(
            final.encoding,
            final_columns,
            final.matrix,
            final.scores,
            review=final.choice.points.review,
            rejected=rejected_rows,
        ),
        golden=(),  # filled in by `write_bundle`, as `model_sha256`
        rows=len(final_rows),
        base_rate=float(history.fraud[final_rows].mean()),
        trained_from_ms=int(times[final_rows[0]]),
        trained_until_ms=int(times[final_rows[-1]]),
        data_sha256=history.sha256,
        model_sha256="",
        forced=forced,
    )
    environment = RunEnvironment.current()
    with tempfile.TemporaryDirectory(prefix="tamiz-run-") as scratch:
        bundle, evaluation_folder = Path(scratch) / "bundle", Path(scratch) / "evaluation"
        fitted_scores = predict(final.booster, final.matrix)
        golden = golden_rows(final.encoding, final.matrix, fitted_scores)
        model = write_bundle(bundle, final.booster, manifest, golden)
        held_out = np.zeros(len(final_rows), dtype=bool)
        held_out[final.held_out] = True
        baseline_scores = fitted_scores.copy()
        baseline_scores[final.held_out] = final.scores
        baseline = fit_baseline(
            manifest,
            final.booster,
            final_columns,
            final.matrix,
            baseline_scores,
            times[final_rows],
            held_out=held_out,
            rejected=rejected_rows,
        )
        write_reference(bundle, baseline)
        figures = write_evaluation(
            evaluation_folder,
            evaluation,
            evaluated.choice,
            search_result,
            model,
            featurize(final.encoding, test_columns),
            history.fraud[test_rows],
            test_scores,
        )

        progress("registering")
        version = mlflow_registry.register(
            settings,
            bundle,
            report=evaluation_folder,
            metrics=evaluation.metric_values("test_"),
            params=run_params(dataset, plan, final, history),
            tags=run_tags(history, gate, environment, force if forced else None),
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
        write_json(Path(scratch) / CONFIG_FILE, run_config)
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
                evaluated_on="the test rows, by trees that were fitted in the same way to earlier rows only",
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
        fitted_rows=manifest.rows,
        trees=final.booster.num_boosted_rounds(),
        probability_calibration=final.calibration,
        search=search_result.summary if search_result else None,
        points=manifest.points,
        points_reason=final.choice.reason,
        evaluation=evaluation,
        data_sha256=history.sha256,
        git_commit=environment.git_commit,
        run_id=mlflow_registry.run_id_of(settings, version),
        reproduction=target.compare(run_config) if target else None,
        seconds=round(time.perf_counter() - started, 2),
        mlflow_ui=mlflow_registry.ui_command(settings),
    )
