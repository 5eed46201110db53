"""Probability calibration (Platt scaling): of the rows with score 0.03, about 3 % should be fraud.

Trees trained on log loss are nearly calibrated; overfitting, resampling and weights distort their probabilities. A
sigmoid on the log-odds, `slope * margin + intercept`, corrects them:

* Two parameters can be fitted to a hundred frauds. Isotonic regression, the usual alternative,
  needs a thousand or more, and its plateaus turn different scores into ties, which changes ROC AUC, KS and alert
  budgets. The sigmoid is strictly increasing, so the ranking does not change.
* A base rate that resampling or weights changed is corrected by the intercept exactly (Elkan 2001).
* Trees add up in log-odds, so slope and intercept are merged into the leaves: serving needs no extra step, and SHAP
  contributions still sum exactly to the score.

Sources: Platt (1999), Probabilistic Outputs for Support Vector Machines; Niculescu-Mizil & Caruana (2005), Predicting
Good Probabilities With Supervised Learning; Elkan (2001), The Foundations of Cost-Sensitive Learning.
"""

import json

import msgspec
import numpy as np
import xgboost as xgb
from scipy.optimize import minimize
from scipy.special import expit, logit

from scoring.arrays import Floats

MIN_GAIN_STANDARD_ERRORS = 2.0  # of the log loss on held-out rows; a smaller gain leaves the scores as they are
SLOPE_BOUNDS = (0.01, 100.0)  # positive, so that the ranking does not change


class ProbabilityCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """The sigmoid and the log losses that justify it. Slope 1 and intercept 0 mean that it is not applied."""

    slope: float = 1.0
    intercept: float = 0.0
    log_loss_before: float  # on the later half of the held-out rows, without the sigmoid
    log_loss_after: float  # on the same rows, with a sigmoid fitted to the earlier half

    @property
    def is_applied(self) -> bool:
        """Whether the sigmoid changes the scores."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    def apply(self, margins: Floats) -> Floats:
        """Calibrated probabilities of fraud, shape (n,). margins: log-odds, shape (n,)."""
        return np.asarray(expit(self.slope * margins + self.intercept))

    @property
    def summary(self) -> str:
        """One line for people."""
        losses = f"held-out log loss {self.log_loss_before:.4f} without calibration, {self.log_loss_after:.4f} with it"
        if not self.is_applied:
            return f"not calibrated: no significant gain ({losses})"
        return f"calibrated: log-odds × {self.slope:.3g} {self.intercept:+.3g} ({losses})"


def fit_calibration(margins: Floats, fraud: Floats) -> ProbabilityCalibration:
    """The sigmoid for these log-odds when it helps on later rows; else the identity.

    margins, fraud: shape (n,), of held-out rows in order of event time. A sigmoid is applied when one that is fitted to
    the earlier half lowers the log loss of the later half by `MIN_GAIN_STANDARD_ERRORS` standard errors. The applied
    sigmoid is fitted to all rows.
    """
    half = len(fraud) // 2
    before = _log_losses(margins[half:], fraud[half:], (1.0, 0.0))
    after = _log_losses(margins[half:], fraud[half:], fit_sigmoid(margins[:half], fraud[:half]))
    gain = before - after
    is_better = gain.mean() > MIN_GAIN_STANDARD_ERRORS * gain.std() / np.sqrt(len(gain))
    slope, intercept = fit_sigmoid(margins, fraud) if is_better else (1.0, 0.0)
    return ProbabilityCalibration(
        slope=slope,
        intercept=intercept,
        log_loss_before=float(before.mean()),
        log_loss_after=float(after.mean()),
    )


def fit_sigmoid(margins: Floats, fraud: Floats) -> tuple[float, float]:
    """Slope and intercept that minimise the log loss of `slope * margin + intercept`; the slope is positive.

    margins, fraud: shape (n,). Labels are smoothed towards the middle as Platt (1999) does, so that perfectly separated
    classes do not lead to an infinite slope.
    """
    frauds = fraud.sum()
    target = np.where(fraud == 1, (frauds + 1) / (frauds + 2), 1 / (len(fraud) - frauds + 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = parameters[0] * margins + parameters[1]
        off = expit(z) - target
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([(off * margins).mean(), off.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SLOPE_BOUNDS, (None, None)])
    return float(found.x[0]), float(found.x[1])


def scale_leaves(booster: xgb.Booster, slope: float, intercept: float) -> xgb.Booster:
    """A copy of the model whose margin is `slope * margin + intercept`, up to float32 rounding."""
    model = json.loads(bytes(booster.save_raw("json")))
    learner = model["learner"]
    base = float(json.loads(learner["learner_model_param"]["base_score"])[0])  # a probability, stored as a list of one
    scaled_base = float(expit(slope * logit(base) + intercept))
    learner["learner_model_param"]["base_score"] = f"[{scaled_base:.9E}]"
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["base_weights"] = [slope * weight for weight in tree["base_weights"]]
        # XGBoost stores a leaf's value in the place of a split's condition.
        tree["split_conditions"] = [
            slope * value if left < 0 else value
            for value, left in zip(tree["split_conditions"], tree["left_children"], strict=True)
        ]
    scaled = xgb.Booster({"nthread": 1})
    scaled.load_model(bytearray(json.dumps(model).encode()))
    return scaled


def _log_losses(margins: Floats, fraud: Floats, sigmoid: tuple[float, float]) -> Floats:
    z = sigmoid[0] * margins + sigmoid[1]
    return np.asarray(np.logaddexp(0, z) - fraud * z)
