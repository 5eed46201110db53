"""Title and meaning of every metric in the report, in words."""

from collections.abc import Mapping

from training.evaluation.review_metrics import TITLES, metric_title

METRIC_WORDS: Mapping[str, tuple[str, str]] = {
    "roc_auc": ("ROC AUC", "probability that a fraud scores above a legitimate transaction; 0.5 for a random score"),
    "average_precision": ("Average precision", "mean precision over all recalls; a random score has the base rate"),
    "ks": ("KS", "largest distance between the two classes' cumulative score distributions"),
    "recall_at_fpr_0.001": ("Recall at 0.1 % FPR", "fraud caught when 1 in 1,000 legitimate transactions is alerted"),
    "recall_at_fpr_0.01": ("Recall at 1 % FPR", "fraud caught when 1 in 100 legitimate transactions is alerted"),
    "recall_at_fpr_0.05": ("Recall at 5 % FPR", "fraud caught when 5 in 100 legitimate transactions are alerted"),
    "log_loss": ("Log loss", "mean negative log-likelihood, in nats; lower is better"),
    "brier": ("Brier score", "mean squared error of the probability; lower is better"),
    "accuracy": ("Accuracy", "share of correct decisions at the review point; always high when fraud is rare"),
    "precision": ("Precision", "share of the alerts at the review point that are fraud"),
    "recall": ("Recall", "share of the fraud that is alerted at the review point"),
    "f1": ("F1", "harmonic mean of precision and recall, at the review point"),
    "f2": ("F2", "as F1, with recall weighted twice as much as precision"),
    "cost_per_transaction": ("Cost per transaction", "by the cost matrix below, at both operating points"),
}
REVIEW_WORDS: Mapping[str, str] = {
    "card_precision": "share of compromised cards, not known before the day, among the cards with the highest scores",
    "transaction_precision": "share of fraud among the transactions with the highest scores of a day",
    "value_detected": "share of the fraud amount that is in the reviewed transactions",
}


def comparison_title(metric: str, per_day: int) -> str:
    """Title of a metric that compares two versions: one of all rows, or one of daily reviews."""
    return metric_title(metric, per_day) if metric in TITLES else METRIC_WORDS[metric][0]
