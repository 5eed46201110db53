"""The one story of training, from labelled history to the champion.

clean -> set the last week aside -> split by time -> search, if asked -> fit -> calibrate_probabilities -> choose
operating points
-> evaluate -> judge -> profile -> bundle -> register -> compare with the champion -> promote, if that is proven
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
from schemas.time_units import DAY_MS
from scoring.arrays import Floats, Matrix
from scoring.bundle.manifest import Manifest
from scoring.features import featurize, fit_encoding
from training.data.history import History, read_history
from training.data.time_split import require_both_classes, split_by_time
from training.evaluation.backtest import backtest, last_days
from training.evaluation.evaluation import Evaluation, evaluate
from training.evaluation.skill_gate import GateResult, evaluate_skill
from training.model.baseline import fit_baseline
from training.model.fit import Part, fit, golden_rows, predict, write_bundle
from training.model.hyperparameter_search import search
from training.model.operating_points import ChosenPoints, choose_points
from training.model.probability_calibration import ProbabilityCalibration, calibrate_probabilities
from training.model.reproduction import CONFIG_FILE, Environment, ReproductionTarget, RunConfig, TrainingPlan, source_of
from training.registry import mlflow_registry
from training.registry.promotion import compete
from training.reports.figures import draw_evaluation, write_figures
from training.reports.model_report import write_model_report
from training.reports.report_builder import report_contents
from training.train_result import ProgressCallback, TrainResult

SEARCH = "search.json"  # beside the measures
EXPLAINED_ROWS = 2_000  # of the test rows: contributions are drawn for so many


def train(
    settings: Settings,
    source: Path | History,
    *,
    force: str | None = None,
    correlation_id: str | None = None,
    by: str | None = None,
    report: bool = False,
    trials: int = 0,
    again: ReproductionTarget | None = None,
    stage: ProgressCallback = lambda name, done=0, of=None: None,
) -> TrainResult:
    """Train on labelled history, register the version and, if it has proven itself, make it champion.

    source: a file, or what was read from elsewhere.
    force: a person's reason to make it champion without proof; it is written down and, where skill was not shown, shown
    wherever it decides. correlation_id: of the request for retraining; by: who asks, if not this user. Both are written
    down. report: also log the PDF that a risk officer reads to the run. trials: how many other settings to search
    among. again: a run to make again, by its plan and on its history. stage: told the name of each step as it begins.
    Raises TrainingError when the history cannot train a model, ModelUnavailableError when the registry cannot be
    reached.
    """
    started = time.perf_counter()
    plan = again.config.plan if again else TrainingPlan.of(settings)
    dataset = load_dataset(settings.dataset)

    stage("reading and cleaning")
    delay_ms = plan.label_delay_days * DAY_MS
    history = source if isinstance(source, History) else read_history(source, dataset, delay_ms)
    if again:
        again.require_same_history(history)
    # The backtest's week is put away before anything looks at it: no choice below may know it.
    week = last_days(history.event_time_ms, plan.backtest_days)
    past = np.flatnonzero(history.event_time_ms < week.edges_ms[0])
    split = split_by_time(
        history.event_time_ms[past],
        validation_share=plan.validation_share,
        test_share=plan.test_share,
        gap_ms=delay_ms,
    )
    learn, validate, test = (past[rows] for rows in split)
    require_both_classes(split, history.fraud[past])

    stage("opening the registry")  # before the work, so that it is not done in vain
    mlflow_registry.ensure_reachable(settings)

    searched = None
    if trials:
        known = np.sort(np.concatenate([learn, validate]))
        searched = search(
            dataset,
            history.columns_at(known),
            history.fraud[known],
            history.event_time_ms[known],
            trials=trials,
            config=plan.fit,
            gap_ms=delay_ms,
            progress=lambda done, of: stage("cross-validating candidates", done, of),
        )
        plan = msgspec.structs.replace(plan, fit=searched.adopted)

    stage("fitting")
    seen = history.columns_at(learn)
    encoding = fit_encoding(dataset, seen)
    matrix = featurize(encoding, history.columns)
    learned, chosen = (Part(matrix=matrix[rows], fraud=history.fraud[rows]) for rows in (learn, validate))
    booster, probability_calibration = calibrate_probabilities(fit(learned, chosen, encoding, plan.fit), chosen)
    scores = predict(booster, matrix)

    stage("choosing operating points")
    amounts = history.columns[dataset.amount] if dataset.amount else np.full(len(scores), np.nan)
    points = choose_points(history.fraud[validate], scores[validate], plan.points, amounts[validate])

    stage("evaluating")
    evaluation = evaluate(
        history.fraud[test],
        scores[test],
        points=points.points,
        f2_threshold=points.f2_threshold,
        costs=plan.points.costs,
        amounts=amounts[test],
        seed=plan.fit.seed,
    )
    verdict = evaluate_skill(evaluation)
    forced = force is not None and not verdict.passed

    stage("registering")
    profile = reference_profile(
        encoding,
        seen,
        learned.matrix,
        scores[np.concatenate([validate, test])],
        review=points.points.review,
        rejected=sum(history.rejected.values()),
    )
    times = history.event_time_ms[learn]
    manifest = Manifest(
        model=settings.model_name,
        dataset=dataset.name,
        features=encoding,
        points=points.points,
        profile=profile,
        golden=(),
        rows=len(learn),
        base_rate=float(learned.fraud.mean()),
        trained_from_ms=int(times[0]),
        trained_until_ms=int(times[-1]),
        data_sha256=history.sha256,
        model_sha256="",
        forced=forced,
    )
    environment = Environment.here()
    with tempfile.TemporaryDirectory(prefix="tamiz-run-") as scratch:
        bundle, evaluated = Path(scratch) / "bundle", Path(scratch) / "evaluation"
        model = write_bundle(bundle, booster, manifest, golden_rows(encoding, matrix[past], scores[past]))
        reference = fit_baseline(
            manifest,
            booster,
            history.columns_at(past),
            matrix[past],
            scores[past],
            history.event_time_ms[past],
            held_out=np.isin(past, learn, invert=True),
            rejected=sum(history.rejected.values()),
        )
        write_reference(bundle, reference)
        if searched:
            evaluated.mkdir()
            (evaluated / SEARCH).write_bytes(msgspec.json.format(msgspec.json.encode(searched), indent=1))
        figures = _write_evaluation(evaluated, evaluation, points, model, matrix[test], history.fraud[test])
        version = mlflow_registry.register(
            settings,
            bundle,
            report=evaluated,
            metrics=evaluation.flat("test_"),
            params=_params(dataset, plan, points, history, probability_calibration),
            tags=_tags(history, verdict, environment, force if forced else None),
        )

        made = RunConfig(
            source=source_of(source),
            data_sha256=history.sha256,
            model=settings.model_name,
            dataset=settings.dataset,
            plan=plan,
            environment=environment,
            model_sha256=model.manifest.model_sha256,
        )
        (Path(scratch) / CONFIG_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1))
        mlflow_registry.attach(settings, version, Path(scratch) / CONFIG_FILE)

        stage("comparing with the champion")
        model = MonitoredModel.load(bundle, version)
        other, promotion_decision, move = compete(
            settings, model, verdict, history, week, force=force, by=by, correlation_id=correlation_id
        )

        if report:
            stage("writing the report")
            contents = report_contents(
                model,
                other,
                history,
                backtest(model, dataset, history),
                evaluation=evaluation,
                evaluated_on="the test rows, which came after all it learned from",
                gate=verdict,
                status="champion" if move.change == "promoted" else "challenger",
                comparison=promotion_decision.comparison,
                promotion_decision=f"{move.change} by {move.by}: {move.reason}",
                figures=figures,
                now=datetime.now(UTC),
            )
            write_model_report(Path(scratch) / mlflow_registry.REPORT, contents)
            mlflow_registry.attach(settings, version, Path(scratch) / mlflow_registry.REPORT)

    parts = {"train": len(learn), "validation": len(validate), "test": len(test), "backtest": len(week.all_rows)}
    return TrainResult(
        model=settings.model_name,
        version=version,
        champion=move.change == "promoted",
        forced=forced,
        previous_champion=move.previous,
        verdict=verdict,
        promotion_decision=promotion_decision,
        move=move,
        rows=history.rows,
        rejected=history.rejected,
        unlabelled=history.unlabelled,
        parts=parts | ({"gap": len(history.fraud) - sum(parts.values())} if delay_ms else {}),
        base_rate=manifest.base_rate,
        trees=booster.num_boosted_rounds(),
        probability_calibration=probability_calibration,
        search=searched.summary if searched else None,
        points=points.points,
        points_why=points.why,
        evaluation=evaluation,
        data_sha256=history.sha256,
        git_commit=environment.git_commit,
        run_id=mlflow_registry.run_of(settings, version),
        reproduction=again.told(made) if again else None,
        seconds=round(time.perf_counter() - started, 2),
        mlflow_ui=mlflow_registry.ui_command(settings),
    )


def _write_evaluation(
    folder: Path,
    evaluation: Evaluation,
    points: ChosenPoints,
    model: MonitoredModel,
    matrix: Matrix,
    fraud: Floats,
) -> dict[str, Figure]:
    some = matrix[:: max(1, len(matrix) // EXPLAINED_ROWS)]
    figures = draw_evaluation(
        fraud,
        model.score(matrix),
        evaluation,
        contributions=model.contributions(some),
        values=some,
        names=model.manifest.names,
    )
    write_figures(folder, figures)
    for figure in figures.values():
        figure.set_layout_engine("none")  # laid out once is enough, should the report draw it again
    for name, record in (("metrics.json", evaluation), ("operating_points.json", points)):
        (folder / name).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    return figures


def _params(
    dataset: Dataset,
    plan: TrainingPlan,
    points: ChosenPoints,
    history: History,
    probability_calibration: ProbabilityCalibration,
) -> dict[str, object]:
    return {
        "dataset": dataset.name,
        "source": history.source,
        "threshold_policy": points.policy.by,
        "calibration_slope": probability_calibration.slope,
        "calibration_intercept": probability_calibration.intercept,
        **msgspec.structs.asdict(plan.fit),
    }


def _tags(history: History, verdict: GateResult, environment: Environment, forced: str | None) -> dict[str, str]:
    tags = {
        "data_sha256": history.sha256,
        "rows": str(history.rows),
        "version": environment.tamiz,
        "verdict": verdict.status,
        "verdict_summary": verdict.summary,
    }
    commit = environment.git_commit
    tags |= {"git_commit": commit} if commit else {}
    return tags | ({"forced": forced or "no reason was given"} if forced is not None else {})
