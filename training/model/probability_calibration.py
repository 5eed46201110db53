"""Make scores probabilities again: of rows that score 0.03, three in a hundred should be fraud.

Trees on log loss are nearly calibrated by themselves; overfitting, resampling and weights are what takes it away. It is
given back by Platt's sigmoid on the log-odds, `slope * margin + intercept`:

* two numbers can be learned from the hundred frauds of a validation part; isotonic regression, the usual other choice,
  wants a thousand and more, and its plateaus make ties of scores that differed, which moves ROC AUC, KS and every
  budget of alerts. This is strictly increasing: who ranks above whom stays as it was.
* undoing a change of the base rate by resampling or weights *is* an intercept (Elkan 2001).
* trees add up in log-odds, so that it disappears into their leaves: serving does nothing more than before, and the
  reasons given for a decision still sum exactly to its score.

Sources: Platt (1999), Probabilistic Outputs for Support Vector Machines; Niculescu-Mizil & Caruana (2005), Predicting
Good Probabilities With Supervised Learning; Elkan (2001), The Foundations of Cost-Sensitive Learning.
"""

import json
from typing import Any

import msgspec
import numpy as np
import xgboost as xgb
from scipy.optimize import minimize
from scipy.special import expit, logit

from scoring.arrays import Floats
from training.model.fit import Part

MIN_ERRORS = 2.0  # standard errors by which the log loss must fall on rows that the sigmoid has not seen
SLOPES = (0.01, 100.0)  # positive: the ranking stays


class ProbabilityCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to the margins, and on what evidence."""

    slope: float = 1.0  # 1 and 0: nothing
    intercept: float = 0.0
    log_loss_before: float  # on the later half of validation
    log_loss_after: float  # there, by a sigmoid that was fitted to the earlier half

    @property
    def applied(self) -> bool:
        """Whether anything was done."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def summary(self) -> str:
        """For people."""
        losses = f"log loss {self.log_loss_before:.4f} without, {self.log_loss_after:.4f} with, on rows it had not seen"
        if not self.applied:
            return f"as the trees give them; recalibrating would not surely help ({losses})"
        return f"recalibrated: log-odds times {self.slope:.3g}, {self.intercept:+.3g} ({losses})"


def calibrate_probabilities(booster: xgb.Booster, validation: Part) -> tuple[xgb.Booster, ProbabilityCalibration]:
    """Recalibrate on validation rows, in the order of their time, if that is sure to help on later ones; else nothing.

    It is sure when the sigmoid of the earlier half lowers the log loss of the later half by two standard errors. Then
    it is fitted anew to all validation rows.
    """
    margins, fraud = _margins(booster, validation), validation.fraud
    half = len(fraud) // 2
    before = _log_losses(margins[half:], fraud[half:], (1.0, 0.0))
    after = _log_losses(margins[half:], fraud[half:], fit_sigmoid(margins[:half], fraud[:half]))
    gain = before - after
    slope, intercept = 1.0, 0.0
    if gain.mean() > MIN_ERRORS * gain.std() / np.sqrt(len(gain)):
        slope, intercept = fit_sigmoid(margins, fraud)
        booster = into_the_leaves(booster, slope, intercept)
    told = ProbabilityCalibration(
        slope=slope,
        intercept=intercept,
        log_loss_before=float(before.mean()),
        log_loss_after=float(after.mean()),
    )
    return booster, told


def fit_sigmoid(margins: Floats, fraud: Floats) -> tuple[float, float]:
    """Slope and intercept on the margins that minimise the log loss; the slope is positive.

    margins, fraud: shape (n,). Labels are drawn a little to the middle, as Platt does, so that rows which the margins
    separate cleanly do not ask for an infinite slope.
    """
    frauds = fraud.sum()
    target = np.where(fraud == 1, (frauds + 1) / (frauds + 2), 1 / (len(fraud) - frauds + 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        z = parameters[0] * margins + parameters[1]
        off = expit(z) - target
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([(off * margins).mean(), off.mean()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return float(found.x[0]), float(found.x[1])


def into_the_leaves(booster: xgb.Booster, slope: float, intercept: float) -> xgb.Booster:
    """Trees whose margin is `slope * margin + intercept` of the given ones, to within the rounding of float32."""
    model = json.loads(bytes(booster.save_raw("json")))
    learner = model["learner"]
    base = float(json.loads(learner["learner_model_param"]["base_score"])[0])  # a probability, written as a list of one
    moved = float(expit(slope * logit(base) + intercept))
    learner["learner_model_param"]["base_score"] = f"[{moved:.9E}]"
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["base_weights"] = [slope * weight for weight in tree["base_weights"]]
        # A leaf's value stands where a split has its condition.
        tree["split_conditions"] = [
            slope * value if left < 0 else value
            for value, left in zip(tree["split_conditions"], tree["left_children"], strict=True)
        ]
    scaled = xgb.Booster({"nthread": 1})
    scaled.load_model(bytearray(json.dumps(model).encode()))
    return scaled


def _margins(booster: xgb.Booster, part: Part) -> Floats:
    found: Any = booster.inplace_predict(part.matrix, predict_type="margin", validate_features=False)
    return np.asarray(found, dtype=np.float64)


def _log_losses(margins: Floats, fraud: Floats, sigmoid: tuple[float, float]) -> Floats:
    z = sigmoid[0] * margins + sigmoid[1]
    return np.asarray(np.logaddexp(0, z) - fraud * z)
