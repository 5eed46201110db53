"""Labelled histories with rare fraud, for `benchmarks.components.rare_fraud`: two shapes of public fraud streams.

`terminals`: strong signals from profiles. Cards buy at terminals near them; frauds are large amounts, everything at a
compromised terminal, and a third of a stolen card's purchases, at five times the amount. Features are counts, means and
the terminals' fraud rates from labels that are a week old. After Le Borgne et al. (2022), Reproducible Machine Learning
for Credit Card Fraud Detection: Practical Handbook, chapter 3.

`application`: weak signals. Thirty numbers, half of them with long tails, and eight categories; some of them move the
log-odds of fraud, and their effects drift. Like anonymised application and account data.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from schemas.dataset.declaration import Dataset
from schemas.dataset.fields import Declaration, EventTimeForm, Field
from schemas.time_units import DAY_MS
from scoring.arrays import Columns, Floats, Ints

DAYS = 120
WARM_UP_DAYS = 30  # before a terminal's fraud rate is known
LABEL_DELAY_DAYS = 7
WINDOWS = (1, 7, 30)  # days
RADIUS = 50.0  # of a plane of 100 × 100: where a card buys, for a hundred terminals


class Shape(NamedTuple):
    """A history in order of event time."""

    dataset: Dataset
    columns: Columns
    fraud: Floats
    event_time_ms: Ints
    gap_ms: int


def terminals(seed: int, *, cards: int, level: float) -> Shape:
    """Cards and twice as many terminals. level: how frequent fraud is; 1 is about 1.5 %."""
    random = np.random.default_rng(seed)
    n_terminals = 2 * cards
    where, places = random.uniform(0, 100, (cards, 2)), random.uniform(0, 100, (n_terminals, 2))
    mean, rate = random.uniform(5, 100, cards), random.uniform(0, 4, cards)
    distance = np.linalg.norm(where[:, None] - places, axis=2)
    near = [np.flatnonzero(row <= max(row.min(), RADIUS * 10 / np.sqrt(n_terminals))) for row in distance]

    count = random.poisson(rate[:, None], (cards, DAYS))
    card, day = np.repeat(np.indices(count.shape).reshape(2, -1), count.ravel(), axis=1)
    second = random.normal(43_200, 20_000, len(card)) % 86_400
    order = np.argsort(day * 86_400 + second, kind="stable")
    card, day, second = card[order], day[order], second[order]
    time = ((day * 86_400 + second) * 1000).astype(np.int64)
    amount = np.abs(random.normal(mean[card], mean[card] / 2))
    terminal = np.array([near[c][random.integers(len(near[c]))] for c in card])

    fraud = (amount > 220) & (random.random(len(card)) < level)
    for today in range(DAYS):
        for bad in random.integers(0, n_terminals, random.poisson(4e-4 * level * n_terminals)):
            fraud |= (terminal == bad) & (day >= today) & (day < today + 28)
        for stolen in random.integers(0, cards, random.poisson(9e-4 * level * cards)):
            mine = np.flatnonzero((card == stolen) & (day >= today) & (day < today + 14))
            mine = mine[random.random(len(mine)) < 1 / 3]
            amount[mine] *= 5
            fraud[mine] = True

    hour = time / 3_600_000 % 24
    columns = {"amount": amount, "hour": hour, "night": (hour <= 6) * 1.0, "weekend": (day % 7 >= 5) * 1.0}
    columns |= _card_profiles(card, amount, time) | _terminal_profiles(terminal, fraud, time)
    kept = time >= WARM_UP_DAYS * DAY_MS
    return Shape(
        _dataset("terminals", dict.fromkeys(columns, "number"), amount="amount"),
        {name: values[kept] for name, values in columns.items()},
        fraud[kept].astype(np.float64),
        time[kept],
        LABEL_DELAY_DAYS * DAY_MS,
    )


def application(seed: int, *, rows: int, rate: float) -> Shape:
    """Rows with a share `rate` of fraud. A model that knew every effect would have a ROC AUC of about 0.9."""
    random = np.random.default_rng(seed)
    time = np.sort(random.integers(0, DAYS * DAY_MS, rows))
    progress = time / (DAYS * DAY_MS) - 0.5
    numbers = random.normal(size=(rows, 30)) @ (np.eye(30) + 0.1 * random.normal(size=(30, 30)))
    sizes = random.integers(3, 25, 8)
    codes = np.minimum((random.random((rows, 8)) ** 2 * sizes).astype(int), sizes - 1)

    odds = 0.4 * np.sin(9 * progress)
    for j in range(12):
        x = numbers[:, j]
        effect = (x, 1.5 * (x > 1), x**2 / 1.5, np.sin(2 * x))[j % 4]
        odds += (random.normal(0, 0.7) + random.normal(0, 0.4) * progress) * effect
    for _ in range(4):
        a, b = random.integers(0, 12, 2)
        odds += random.normal(0, 0.7) * (numbers[:, a] > 0.5) * (numbers[:, b] > 0.5)
    for j in range(4):
        odds += random.normal(0, 0.7, sizes[j])[codes[:, j]]
    base = brentq(lambda intercept: expit(odds + intercept).mean() - rate, -30, 10)
    fraud = (random.random(rows) < expit(odds + base)).astype(np.float64)

    numbers[:, ::2] = np.exp(1.2 * numbers[:, ::2])
    columns = {f"number_{j}": numbers[:, j] for j in range(30)}
    columns |= {f"category_{j}": codes[:, j].astype(str).astype(object) for j in range(8)}
    kinds = {name: "category" if name.startswith("category") else "number" for name in columns}
    return Shape(_dataset("application", kinds), columns, fraud, time, 0)


def _card_profiles(card: Ints, amount: Floats, time: Ints) -> dict[str, Floats]:
    """Count and mean of the card's earlier amounts, and the amount divided by the mean."""
    order = np.lexsort((time, card))
    frame = pd.DataFrame({"amount": amount[order]}, index=pd.to_datetime(time[order], unit="ms"))
    found = {}
    for days in WINDOWS:
        window = frame.groupby(card[order])["amount"].rolling(f"{days}D", closed="left")
        for name, values in (("count", window.count()), ("mean", window.mean())):
            column = np.empty(len(card))
            column[order] = values.to_numpy()
            found[f"card_{name}_{days}d"] = column
    found["card_count_1d"] = np.nan_to_num(found["card_count_1d"])
    return found | {"card_ratio_30d": amount / found["card_mean_30d"]}


def _terminal_profiles(terminal: Ints, fraud: Floats, time: Ints) -> dict[str, Floats]:
    """Count and smoothed fraud rate of the terminal's transactions whose labels are known."""
    found = {f"terminal_{name}_{days}d": np.empty(len(time)) for days in WINDOWS for name in ("count", "fraud_rate")}
    for one in np.unique(terminal):
        rows = np.flatnonzero(terminal == one)
        times, frauds = time[rows], np.append(0.0, np.cumsum(fraud[rows]))
        until = np.searchsorted(times, times - LABEL_DELAY_DAYS * DAY_MS, side="right")
        for days in WINDOWS:
            since = np.searchsorted(times, times - (LABEL_DELAY_DAYS + days) * DAY_MS, side="right")
            found[f"terminal_count_{days}d"][rows] = until - since
            found[f"terminal_fraud_rate_{days}d"][rows] = (frauds[until] - frauds[since] + 0.1) / (until - since + 10)
    return found


def _dataset(name: str, kinds: dict[str, str], amount: str | None = None) -> Dataset:
    fields = tuple(Field(name=column, kind="category" if k == "category" else "number") for column, k in kinds.items())
    time = EventTimeForm(date="time", formats=("epoch_ms",))
    return Dataset(
        Declaration(
            name=name, key="", label="fraud", amount=amount, features=tuple(kinds), event_time=time, fields=fields
        )
    )
