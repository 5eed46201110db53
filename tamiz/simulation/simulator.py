"""Synthetic card transactions with the distributions of the real file. The same seed gives the same rows.

The distributions were estimated from the 26,975 rows of the card data set: genero, ciudad, linea_tc, interes_tc and
is_prime belong to the card holder; everything else is drawn for each transaction, independently; the discount is a
share of the amount, the cashback a share of the amount after discount.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.errors import ConfigError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns, Flags, Floats, Ints
from tamiz.simulation.drift_injection import MIN_MONTO, InjectedDrift, inject_drift

JANUARY_2_MS = 1_577_923_200_000  # 2020-01-02T00:00Z: the real file runs from the 2nd to the 30th of January
FORMATS = ("original", "plain", "json", "mixed")

FRAUD_SHARE = 0.03
# Intercept of the signal by `concept`, so that the fraud rate is FRAUD_SHARE; solved on two million rows.
CONCEPTS, INTERCEPTS = (0.0, 0.25, 0.5, 0.75, 1.0), (-4.958, -3.998, -3.476, -3.338, -3.471)
DISCOUNTS, DISCOUNT_SHARES = (0.0, 0.1, 0.2), (0.6975, 0.2530, 0.0495)
CASHBACK = {"Física": 0.01, "Virtual": 0.02}  # of monto - dcto
HOURS = range(1, 24)
MAX_MONTO = 1000.0
# Level -> share; None is missing. The real file has five merchants, four cities, and three spellings of missing.
LEVELS: Mapping[str, Mapping[str | None, float]] = {
    "genero": {"M": 0.5, "F": 0.4, None: 0.1},
    "ciudad": {"Toluca": 1 / 7, "Guadalajara": 1 / 7, "Merida": 1 / 7, "Monterrey": 1 / 7, None: 3 / 7},
    "establecimiento": {
        **dict.fromkeys(("Restaurante", "Abarrotes", "Super", "MPago", "Farmacia"), 1 / 8),
        None: 3 / 8,
    },
    "tipo_tc": {"Física": 0.7, "Virtual": 0.3},
    "status_txn": {"Aceptada": 0.7, "En proceso": 0.2, "Rechazada": 0.1},
    "device_os": {"WEB": 0.25, "ANDROID": 0.25, None: 0.5},
}
PRIME_SHARE = 0.135
LINEA_TC = range(25_000, 100_000, 1_000)
INTERES_TC = range(32, 65)
DEVICE_SCORES = range(1, 6)
DEVICE_MODEL = 2020.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What to simulate.

    signal: fraud depends on the inputs (see `fraud_probability`); otherwise labels are random, as in the real file.
    payload_format: one of `FORMATS`, see `payload_formats`.
    invalid_share: share of payloads that cannot be scored.
    Raises ConfigError that names the invalid setting.
    """

    rows: int
    seed: int = 0
    users: int = 4_000
    start_ms: int = JANUARY_2_MS
    days: int = 29
    signal: bool = False
    drift: tuple[InjectedDrift, ...] = ()
    payload_format: str = "original"
    invalid_share: float = 0.0

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("rows", "users", "days"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more")
        if self.start_ms % DAY_MS:
            raise ConfigError(f"start_ms is {self.start_ms}, expected midnight in UTC")
        if self.payload_format not in FORMATS:
            raise ConfigError(
                f"payload_format {self.payload_format!r}: unknown format; choose one of {', '.join(FORMATS)}"
            )
        if not 0.0 <= self.invalid_share <= 1.0:
            raise ConfigError(f"invalid_share is {self.invalid_share}, expected a share in [0, 1]")
        if not self.signal and any(d.kind == "concept" for d in self.drift):
            raise ConfigError("drift concept: needs a signal to change; simulate with --signal")


@dataclass(frozen=True, kw_only=True)
class SimulatedTransactions:
    """n transactions in order of event time.

    columns: field name -> (n,): float64 with NaN for missing, or object of str | None.
    event_time_ms: int64 (n,), whole seconds. labels: bool (n,).
    probability: float64 (n,), the true probability of fraud; `labels` are drawn from it.
    """

    columns: Columns
    event_time_ms: Ints
    labels: Flags
    probability: Floats


def simulate(traffic: Traffic) -> SimulatedTransactions:
    """Draw the transactions.

    Users, transactions, drift and labels have random streams of their own: a change of one does not affect the others.

    >>> simulate(Traffic(rows=3, seed=1)).columns["tipo_tc"].tolist()
    ['Virtual', 'Virtual', 'Física']
    """
    users, rows, population_drift, observed_drift, label_seed, _ = random_streams(traffic)
    columns = _transactions(traffic, _card_holders(traffic.users, np.random.default_rng(users)), rows)
    columns = inject_drift(columns, traffic.drift, population_drift, in_population=True)
    columns = _with_derived_amounts(columns)
    if traffic.signal:
        probability = fraud_probability(columns)
    else:
        probability = np.full(traffic.rows, FRAUD_SHARE)
    labels = np.random.default_rng(label_seed).random(traffic.rows) < probability
    columns = dict(inject_drift(columns, traffic.drift, observed_drift, in_population=False))
    event_time_ms = columns.pop("event_time_ms")
    for internal in ("concept", "discount"):
        del columns[internal]
    return SimulatedTransactions(columns=columns, event_time_ms=event_time_ms, labels=labels, probability=probability)


def random_streams(traffic: Traffic) -> list[np.random.SeedSequence]:
    """Independent seeds: users, rows, drift of the population, drift of observed values, labels, format."""
    return np.random.SeedSequence(traffic.seed).spawn(6)


def _card_holders(n: int, rng: np.random.Generator) -> Columns:
    return {
        "genero": _level("genero", n, rng),
        "ciudad": _level("ciudad", n, rng),
        "linea_tc": rng.choice(np.array(LINEA_TC, float), n),
        "interes_tc": rng.choice(np.array(INTERES_TC, float), n),
        "is_prime": (rng.random(n) < PRIME_SHARE).astype(float),
        "weight": rng.exponential(size=n),
    }


def _transactions(traffic: Traffic, holders: Columns, seed: np.random.SeedSequence) -> Columns:
    n, rng = traffic.rows, np.random.default_rng(seed)
    user = _users(n, holders["weight"], rng)
    of_holder = {name: holders[name][user] for name in ("genero", "ciudad", "linea_tc", "interes_tc", "is_prime")}
    # Uniform over the hours with traffic; sorted, so that rows are in event order.
    second = np.sort(rng.integers(0, traffic.days * len(HOURS) * 3600, n))
    day, within = np.divmod(second, len(HOURS) * 3600)
    since_midnight = within + HOURS[0] * 3600
    return of_holder | {
        "ID_USER": user,
        "event_time_ms": traffic.start_ms + day * DAY_MS + since_midnight * 1000,
        "hour": (since_midnight // 3600).astype(float),
        "monto": np.maximum(np.round(rng.uniform(0, MAX_MONTO, n), 7), MIN_MONTO),
        "discount": rng.choice(DISCOUNTS, n, p=DISCOUNT_SHARES),
        "tipo_tc": _level("tipo_tc", n, rng),
        "establecimiento": _level("establecimiento", n, rng),
        "status_txn": _level("status_txn", n, rng),
        "device_model": np.full(n, DEVICE_MODEL),
        "device_score": rng.choice(np.array(DEVICE_SCORES, float), n),
        "device_os": _level("device_os", n, rng),
        "concept": np.zeros(n),
    }


def _users(n: int, weight: Array, rng: np.random.Generator) -> Ints:
    # Each user once, the rest with exponential weights: transactions per user are geometric, as in the real file.
    each_once = rng.permutation(len(weight))[:n]
    more = rng.choice(len(weight), n - len(each_once), p=weight / weight.sum())
    return rng.permutation(np.concatenate([each_once, more]))


def _level(name: str, n: int, rng: np.random.Generator) -> Array:
    levels = np.array(list(LEVELS[name]), dtype=object)
    return levels[rng.choice(len(levels), n, p=list(LEVELS[name].values()))]


def _with_derived_amounts(columns: Columns) -> Columns:
    monto = columns["monto"]
    dcto = np.round(monto * columns["discount"], 7)
    rate = np.where(columns["tipo_tc"] == "Virtual", CASHBACK["Virtual"], CASHBACK["Física"])
    return {**columns, "dcto": dcto, "cashback": np.round((monto - dcto) * rate, 7)}


def fraud_probability(columns: Columns) -> Floats:
    """The true fraud probability: a logistic model with one interaction; 3 % fraud without drift.

    `concept` in [0, 1] scales the coefficients by 1 - 2 `concept` and keeps the 3 %: 0 at ½, reversed at 1.
    """
    monto = columns["monto"] / MAX_MONTO - 0.5
    virtual = columns["tipo_tc"] == "Virtual"
    night = columns["hour"] <= 6
    margin = (
        2.0 * monto
        + 0.9 * virtual
        + 1.0 * night
        - 0.4 * (columns["device_score"] - 3)
        + 0.7 * (columns["establecimiento"] == "MPago")
        + 3.2 * virtual * monto
    )
    turned = np.interp(columns["concept"], CONCEPTS, INTERCEPTS) + margin * (1 - 2 * columns["concept"])
    return np.asarray(1 / (1 + np.exp(-turned)), dtype=np.float64)


def attainable_auc(probability: Floats) -> float:
    """The best attainable ROC AUC in expectation: that of the true probability itself.

    probability: shape (n,), in [0, 1]; each row counts with weight p as fraud and 1 - p as no fraud.
    Raises ValueError if all are 0 or all are 1.

    >>> attainable_auc(np.array([0.1, 0.1])), attainable_auc(np.array([0.0, 1.0]))
    (0.5, 1.0)
    """
    levels, which = np.unique(probability, return_inverse=True)
    fraud = np.bincount(which, probability, minlength=len(levels))
    fine = np.bincount(which, 1 - probability, minlength=len(levels))
    if not fraud.sum() or not fine.sum():
        raise ValueError("probability: an AUC needs some fraud and some non-fraud; all are 0 or all are 1")
    below = np.cumsum(fine) - fine / 2
    return float((fraud * below).sum() / (fraud.sum() * fine.sum()))
