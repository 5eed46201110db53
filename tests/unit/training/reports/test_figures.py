"""Figures of an evaluation: their text has the evaluation's numbers, the files open, no global state changes."""

import sys

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.random import default_rng

from scoring.decision import OperatingPoints
from training.evaluation.evaluation import evaluate
from training.evaluation.review_metrics import evaluate_reviews
from training.evaluation.review_ranking import NEVER, ReviewRows
from training.reports.figures import (
    MAX_FEATURES,
    beeswarm,
    confusion,
    draw_evaluation,
    importance,
    score_distribution,
    write_figures,
)
from training.reports.review_figures import REVIEW_FIGURES, draw_reviews

POINTS = OperatingPoints(review=0.06, decline=1.01)
NAMES = [f"feature {i}" for i in range(20)]


def labels_and_scores(n=800, seed=0):
    rng = default_rng(seed)
    labels = (rng.random(n) < 0.1).astype(float)
    return labels, 1 / (1 + np.exp(-(rng.normal(size=n) + labels - 3)))


def figures_of(labels, scores, **more):
    evaluation = evaluate(labels, scores, points=POINTS, f2_threshold=0.05, resamples=50)
    return evaluation, draw_evaluation(labels, scores, evaluation, **more)


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def contributions_and_values(n=800):
    rng = default_rng(1)
    values = rng.normal(size=(n, 20))
    values[::7, 0] = np.nan
    values[:, 3] = 0.1  # constant: one colour, one column of dots
    contributions = np.column_stack([np.nan_to_num(values) * 4 * 0.7 ** np.arange(20), np.full(n, -3.0)])
    return contributions, values


def test_every_figure_is_written_as_a_picture(tmp_path):
    contributions, values = contributions_and_values()
    _, figures = figures_of(*labels_and_scores(), contributions=contributions, values=values, names=NAMES)
    paths = write_figures(tmp_path / "figures", figures)
    assert [path.stem for path in paths] == [
        "roc", "precision_recall", "score_distribution", "calibration", "confusion_review", "confusion_f2",
        "threshold_table", "shap_beeswarm", "shap_importance",
    ]  # fmt: skip
    for path in paths:
        picture = imread(path)
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0.01, f"{path.stem} is blank"


def test_no_figure_is_left_in_pyplot():
    figures_of(*labels_and_scores())
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_axes_and_titles_say_what_they_show():
    _, figures = figures_of(*labels_and_scores())
    for name in ("roc", "precision_recall", "score_distribution", "calibration"):
        axes = figures[name].axes[0]
        assert axes.get_title(), name
        assert "(" in axes.get_xlabel(), f"{name}: the unit is missing"
        assert "(" in axes.get_ylabel(), f"{name}: the unit is missing"
        assert axes.get_legend() is not None, name


def test_the_legends_hold_the_intervals_and_the_base_rate():
    evaluation, figures = figures_of(*labels_and_scores())
    auc = evaluation.metric("roc_auc")
    assert f"AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})" in texts(figures["roc"])
    assert f"base rate {evaluation.base_rate:.2%}" in texts(figures["precision_recall"])


def test_the_confusion_matrix_shows_its_counts():
    evaluation, _ = figures_of(*labels_and_scores())
    shown = texts(confusion(evaluation.at_review, "Confusion"))
    for count in (evaluation.at_review.true_positives, evaluation.at_review.true_negatives):
        assert f"{count:,}" in shown


def test_a_challenge_point_is_drawn_between_the_others():
    labels, scores = labels_and_scores()
    points = OperatingPoints(review=0.06, challenge=0.2, decline=0.3)
    legend = score_distribution(labels, scores, points).axes[0].get_legend()
    drawn = [line.get_text() for line in legend.get_texts() if " from " in line.get_text()]
    assert drawn == ["review from 0.0600", "challenge from 0.2000", "decline from 0.3000"]


def test_a_point_above_every_score_is_labelled_never():
    labels, scores = labels_and_scores()
    figure = score_distribution(labels, scores, POINTS)
    assert "decline: never" in texts(figure)
    assert figure.axes[0].get_yscale() == "log"


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        (np.zeros(60), np.linspace(0, 1, 60)),
        (np.full(60, np.nan), np.linspace(0, 1, 60)),
        (np.arange(60) % 2, np.full(60, 0.03)),
        (np.arange(60) % 2, np.zeros(60)),
        (np.array([0.0, 1.0]), np.array([0.2, 0.3])),
    ],
    ids=["no fraud", "no labels", "equal scores", "all zero", "two rows"],
)
def test_degenerate_rows_give_the_figures_they_allow(labels, scores, tmp_path):
    _, figures = figures_of(labels, scores)
    assert ("roc" in figures) == (0 < np.nansum(labels) < len(labels))
    assert all(path.stat().st_size > 1000 for path in write_figures(tmp_path, figures, dpi=40))


def test_the_strongest_features_are_on_top():
    contributions, values = contributions_and_values()
    labels = [text.get_text() for text in importance(contributions, NAMES).axes[0].get_yticklabels()]
    assert len(labels) == MAX_FEATURES
    assert labels[-1] == "feature 0"
    assert beeswarm(contributions, values, NAMES).axes[0].get_yticklabels()[-1].get_text() == "feature 0"


def test_contributions_of_another_shape_are_refused():
    contributions, values = contributions_and_values()
    with pytest.raises(ValueError, match=r"contributions must have shape \(n, 20\)"):
        importance(contributions, NAMES[:-1])
    with pytest.raises(ValueError, match=r"values must have shape"):
        beeswarm(contributions, values[:, :-1], NAMES)


@pytest.fixture
def reviews():
    """Forty days of 60 transactions of 30 cards."""
    rng = default_rng(3)
    labels, scores = labels_and_scores(2400)
    rows = ReviewRows(
        day=np.arange(2400) // 60, fraud=labels, cards=rng.integers(0, 30, 2400), known_from=np.full(2400, NEVER),
        amounts=rng.uniform(1, 100, 2400), whole=np.ones(2400, dtype=bool),
    )  # fmt: skip
    return rows, scores


def test_the_figures_of_daily_reviews_hold_the_metrics(reviews, tmp_path):
    found = evaluate_reviews(*reviews, 5)
    figures = draw_reviews(found)
    card = found.metric("card_precision")
    assert f"mean {card.value:.3f} ({card.low:.3f} to {card.high:.3f})" in texts(figures["precision_at_k"])
    assert f"attainable: mean {card.attainable:.3f}" in texts(figures["precision_at_k"])
    assert "5 reviews a day" in texts(figures["value_detected"])
    assert [path.stem for path in write_figures(tmp_path, figures)] == list(REVIEW_FIGURES)


def test_without_cards_and_amounts_the_precision_of_transactions_is_drawn(reviews):
    rows, scores = reviews
    found = evaluate_reviews(rows._replace(cards=None, known_from=None, amounts=None), scores, 5)
    figures = draw_reviews(found)
    assert list(figures) == ["precision_at_k"]
    assert "Transaction precision@5 by day" in texts(figures["precision_at_k"])


def test_two_days_without_an_interval_are_drawn_too(reviews):
    rows, scores = reviews
    figures = draw_reviews(evaluate_reviews(rows.at(rows.day < 2), scores[rows.day < 2], 5))
    assert "interval" not in texts(figures["value_detected"])
    assert draw_reviews(evaluate_reviews(rows.at(rows.day < 0), scores[rows.day < 0], 5)) == {}
