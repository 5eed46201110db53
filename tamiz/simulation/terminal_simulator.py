"""Synthetic transactions of cards at terminals, with fraud that only a memory of cards and terminals can detect.

Follows the published description of the simulator of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot and
Bontempi, 2022, chapter 3). Cards and terminals have a place; a card is used at the terminals around it, with an amount
and a frequency of its own. Three kinds of fraud:

1. every amount above `MAX_LEGITIMATE_AMOUNT`;
2. every transaction at a compromised terminal: some terminals are compromised each day, for `TERMINAL_DAYS` days;
3. a third of the transactions of a stolen card, with the amount times `STOLEN_FACTOR`: some cards are stolen each day,
   for `CARD_DAYS` days.

A day depends on nothing but the population and its date, so that traffic can be continued on any day.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from scipy import stats
from scipy.spatial import cKDTree

from schemas.errors import ConfigError
from schemas.time_units import DAY_MS
from scoring.arrays import Flags, Floats, Indices, Ints
from tamiz.simulation.simulator import JANUARY_2_MS

GRID = 100.0  # places are uniform in a square with sides of this length
RADIUS = 5.0  # a card is used at the terminals within this distance
TERMINALS_PER_CARD = 2
MEAN_AMOUNTS = (5.0, 100.0)  # uniform over cards; the standard deviation is half the mean
MAX_DAILY_MEAN = 4.0  # transactions of a card a day: Poisson, with a mean that is uniform from 0
NOON_S, TIME_STD_S = 43_200.0, 20_000.0

MAX_LEGITIMATE_AMOUNT = 220.0
CARDS = 5_000  # by default
COMPROMISED_PER_DAY, TERMINAL_DAYS = 2, 28  # terminals, for CARDS; in proportion for fewer or more cards
STOLEN_PER_DAY, CARD_DAYS = 3, 14  # cards, likewise
STOLEN_SHARE, STOLEN_FACTOR = 1 / 3, 5.0  # of the transactions of a stolen card
SCENARIOS = ("legitimate", "large amount", "compromised terminal", "stolen card")
LEGITIMATE, LARGE_AMOUNT, COMPROMISED_TERMINAL, STOLEN_CARD = range(len(SCENARIOS))

MIN_REPORT_DAYS, MAX_REPORT_DAYS = 1, 7  # from a transaction until its label is reported, uniform


@dataclass(frozen=True, kw_only=True)
class TerminalTraffic:
    """What to simulate. Raises ConfigError that names the invalid setting."""

    days: int
    cards: int = CARDS
    start_ms: int = JANUARY_2_MS
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate."""
        for name in ("days", "cards"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more")
        if self.start_ms % DAY_MS or self.start_ms < 0:
            raise ConfigError(f"start_ms is {self.start_ms}, expected midnight in UTC")


@dataclass(frozen=True, kw_only=True)
class TerminalTransactions:
    """n transactions in order of event time. Every array has the shape (n,).

    cards, terminals: numbers of both, from 0. number: of the transaction in its day, from 0. amounts: in whole cents.
    scenarios: places in `SCENARIOS`.
    probability: of fraud, for an oracle that knows all cards, the compromised terminals and the stolen cards.
    """

    event_time_ms: Ints
    number: Ints
    cards: Indices
    terminals: Indices
    amounts: Floats
    scenarios: Ints
    probability: Floats
    reported_at_ms: Ints

    @property
    def labels(self) -> Flags:
        """Whether a transaction is fraud."""
        return np.asarray(self.scenarios != LEGITIMATE)


@dataclass(frozen=True, kw_only=True)
class _Population:
    mean_amounts: Floats  # (n cards,)
    daily_means: Floats  # (n cards,)
    nearby: Indices  # terminals around card 0, then around card 1, ...
    nearby_starts: Indices  # (n cards + 1,): where the terminals of a card begin in `nearby`
    terminals: int


def simulate_terminals(traffic: TerminalTraffic) -> TerminalTransactions:
    """Draw the transactions.

    >>> some = simulate_terminals(TerminalTraffic(days=1, cards=2, seed=1))
    >>> some.cards.tolist(), some.amounts.tolist()
    ([0, 0, 1, 0], [11.68, 13.92, 30.85, 28.51])
    """
    population = _population(traffic)
    first_day = traffic.start_ms // DAY_MS
    days = [_day(traffic, population, first_day + i) for i in range(traffic.days)]
    return TerminalTransactions(
        **{name: np.concatenate([getattr(day, name) for day in days]) for name in days[0].__dataclass_fields__}
    )


def transaction_ids(some: TerminalTransactions) -> list[str]:
    """Ids of the transactions, such as 20200131-17."""
    days, which = np.unique(some.event_time_ms // DAY_MS, return_inverse=True)
    texts = [date.fromordinal(date(1970, 1, 1).toordinal() + day).strftime("%Y%m%d") for day in days.tolist()]
    return [f"{texts[i]}-{number}" for i, number in zip(which.tolist(), some.number.tolist(), strict=True)]


def _population(traffic: TerminalTraffic) -> _Population:
    rng = np.random.default_rng([traffic.seed, 0])
    terminals = traffic.cards * TERMINALS_PER_CARD
    homes, places = (rng.uniform(0, GRID, (n, 2)) for n in (traffic.cards, terminals))
    tree = cKDTree(places)
    # A card without a terminal around it is used at the nearest one.
    _, nearest = tree.query(homes)
    around = [
        sorted(found) or [near] for found, near in zip(tree.query_ball_point(homes, RADIUS), nearest, strict=True)
    ]
    return _Population(
        mean_amounts=rng.uniform(*MEAN_AMOUNTS, traffic.cards),
        daily_means=rng.uniform(0, MAX_DAILY_MEAN, traffic.cards),
        nearby=np.concatenate(around).astype(np.intp),
        nearby_starts=np.cumsum([0, *map(len, around)]).astype(np.intp),
        terminals=terminals,
    )


def _day(traffic: TerminalTraffic, population: _Population, day: int) -> TerminalTransactions:
    rng = np.random.default_rng([traffic.seed, 1, day])
    cards = np.repeat(np.arange(traffic.cards), rng.poisson(population.daily_means))
    seconds = rng.normal(NOON_S, TIME_STD_S, len(cards)).astype(np.int64)
    within = (seconds > 0) & (seconds < DAY_MS // 1000)
    order = np.argsort(seconds[within], kind="stable")
    cards, seconds = cards[within][order], seconds[within][order]
    n = len(cards)
    mean = population.mean_amounts[cards]
    amounts = rng.normal(mean, mean / 2)
    amounts = np.where(amounts < 0, rng.uniform(0, 2 * mean), amounts)
    first, last = population.nearby_starts[cards], population.nearby_starts[cards + 1]
    terminals = population.nearby[rng.integers(first, last)]
    compromised = np.isin(terminals, _victims(traffic, day, TERMINAL_DAYS)[0])
    stolen = np.isin(cards, _victims(traffic, day, CARD_DAYS)[1])
    misused = stolen & (rng.random(n) < STOLEN_SHARE)
    amounts = np.round(amounts * np.where(misused, STOLEN_FACTOR, 1.0), 2)
    large = amounts > MAX_LEGITIMATE_AMOUNT
    event_time_ms = day * DAY_MS + seconds * 1000
    delay_s = rng.integers(MIN_REPORT_DAYS * DAY_MS // 1000, MAX_REPORT_DAYS * DAY_MS // 1000, n)
    return TerminalTransactions(
        event_time_ms=event_time_ms,
        number=np.arange(n),
        cards=cards,
        terminals=terminals,
        amounts=amounts,
        scenarios=np.select(
            [misused, compromised, large], [STOLEN_CARD, COMPROMISED_TERMINAL, LARGE_AMOUNT], LEGITIMATE
        ),
        probability=np.where(large | compromised, 1.0, np.where(stolen, _misuse(amounts, mean), 0.0)),
        reported_at_ms=event_time_ms + delay_s * 1000,
    )


def _victims(traffic: TerminalTraffic, day: int, days: int) -> tuple[Indices, Indices]:
    """Terminals and cards that were drawn on the day and on the days before it."""
    draws = [np.random.default_rng([traffic.seed, 2, day - i]) for i in range(min(days, day + 1))]
    size = traffic.cards / CARDS
    terminals = [_draw(rng, traffic.cards * TERMINALS_PER_CARD, COMPROMISED_PER_DAY * size) for rng in draws]
    cards = [_draw(rng, traffic.cards, STOLEN_PER_DAY * size) for rng in draws]
    return np.concatenate(terminals), np.concatenate(cards)


def _draw(rng: np.random.Generator, of: int, expected: float) -> Indices:
    """A number of draws with this expectation: it, or the next lower or higher integer."""
    return rng.integers(0, of, int(expected + rng.random()))


def _misuse(amounts: Floats, mean: Floats) -> Floats:
    """Probability that a transaction of a stolen card is fraud, by its amount and the card's own mean."""
    fraud = STOLEN_SHARE * _density(amounts / STOLEN_FACTOR, mean) / STOLEN_FACTOR
    fine = (1 - STOLEN_SHARE) * _density(amounts, mean)
    return fraud / (fraud + fine)


def _density(amounts: Floats, mean: Floats) -> Floats:
    # A negative amount, which has a probability of cdf(-2), is drawn again from the uniform distribution.
    negative = stats.norm.cdf(-2) * (amounts <= 2 * mean) / (2 * mean)
    return np.asarray(stats.norm.pdf(amounts, mean, mean / 2) + negative, dtype=np.float64)
