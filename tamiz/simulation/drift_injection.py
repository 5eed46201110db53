"""Injects drift of a named kind from a given time on. Each kind is one small function.

Some kinds change the population (what people buy, who attacks, what fraud looks like): derived amounts and labels
change with it. Others change only the observed values (a broken pipeline): the true fraud probability does not change.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from schemas.errors import ConfigError
from schemas.time_units import DAY_MS, HOUR_MS
from scoring.arrays import Array, Columns

NEW_CATEGORY = "Gasolinera"
ATTACKED_CARDS = 5
CARD_TESTING_MS = 2 * HOUR_MS  # of a burst that tests cards; small amounts in its first half, large ones in its second
MIN_MONTO = 0.02  # a smaller amount would need an exponent in `cashback`
# Standard deviations of the distributions in `simulator`: one continuous uniform, two discrete uniform.
SIGMA = {"monto": 1000 / 12**0.5, "linea_tc": 1000 * ((75**2 - 1) / 12) ** 0.5, "interes_tc": ((33**2 - 1) / 12) ** 0.5}


@dataclass(frozen=True, kw_only=True)
class InjectedDrift:
    """A change of the traffic from event time `at_ms` on.

    strength: its unit depends on the kind, see `KINDS`.
    feature: the field that changes; None for kinds without a choice of field.
    """

    kind: str
    at_ms: int
    strength: float
    feature: str | None = None

    def __post_init__(self) -> None:
        """Validate. Raises ConfigError that names an invalid kind, strength or feature."""
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ConfigError(f"drift {self.kind!r}: unknown kind; choose one of {', '.join(KINDS)}")
        if not kind.lowest <= self.strength <= kind.highest:
            raise ConfigError(
                f"drift {self.kind}: strength {self.strength:g} must lie in [{kind.lowest:g}, {kind.highest:g}]: "
                f"{kind.strength}"
            )
        if self.feature not in (kind.features or (None,)):
            expected = f"one of {', '.join(kind.features)}" if kind.features else "none"
            raise ConfigError(f"drift {self.kind}: feature {self.feature!r}, expected {expected}")


class Kind(NamedTuple):
    """One kind of drift. The first of `features` is the default."""

    apply: Callable[[Columns, Array, InjectedDrift, np.random.Generator], dict[str, Array]]
    in_population: bool  # changes the population; False: only the observed values
    strength: str  # what it measures
    default: float
    lowest: float
    highest: float
    features: tuple[str, ...] = ()


def inject_drift(
    columns: Columns, drifts: tuple[InjectedDrift, ...], seed: np.random.SeedSequence, *, in_population: bool
) -> Columns:
    """The columns after the drifts that change the population; `in_population=False`: only the observed values.

    Each drift has a random stream of its own, so that adding one does not change the others.
    """
    for drift, child in zip(drifts, seed.spawn(len(drifts)), strict=True):
        kind = KINDS[drift.kind]
        if kind.in_population == in_population:
            active = columns["event_time_ms"] >= drift.at_ms
            columns = {**columns, **kind.apply(columns, active, drift, np.random.default_rng(child))}
    return columns


def _mean_shift(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    feature = str(drift.feature)
    shifted = columns[feature] + drift.strength * SIGMA[feature] * active
    if feature != "monto":
        return {feature: np.maximum(np.round(shifted), 0.0)}
    return {feature: np.maximum(np.round(shifted, 7), MIN_MONTO)}


def _new_category(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    feature = str(drift.feature)
    hit = active & (rng.random(len(active)) < drift.strength)
    return {feature: np.where(hit, NEW_CATEGORY, columns[feature])}


def _virtual_share(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    virtual = rng.random(len(active)) < drift.strength
    return {"tipo_tc": np.where(active, np.where(virtual, "Virtual", "Física"), columns["tipo_tc"])}


def _attack(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    # A few stolen cards, used online for high amounts from devices with the lowest score.
    hit = np.flatnonzero(active & (rng.random(len(active)) < drift.strength))
    attacked = _on_stolen_cards(columns, hit, rng)
    if len(hit):
        attacked["monto"][hit] = np.round(rng.uniform(800, 1000, len(hit)), 7)
    return attacked


def _card_testing(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    # A program tries stolen card numbers with small amounts, then buys with those that work.
    since_ms = columns["event_time_ms"] - drift.at_ms
    hit = np.flatnonzero(active & (since_ms < CARD_TESTING_MS) & (rng.random(len(active)) < drift.strength))
    attacked = _on_stolen_cards(columns, hit, rng)
    if len(hit):
        buys = since_ms[hit] >= CARD_TESTING_MS / 2
        amounts = np.where(buys, rng.uniform(800, 1000, len(hit)), rng.uniform(1, 100, len(hit)))
        attacked["monto"][hit] = np.round(amounts, 7)
    return attacked


def _on_stolen_cards(columns: Columns, hit: Array, rng: np.random.Generator) -> dict[str, Array]:
    """The columns with some rows on few cards, online and from devices with the lowest score. hit: these rows."""
    if not len(hit):
        return {}
    cards = rng.choice(len(columns["ID_USER"]), ATTACKED_CARDS)  # rows whose card holders are attacked
    victims = cards[rng.integers(0, ATTACKED_CARDS, len(hit))]
    attacked = {name: columns[name].copy() for name in columns if name != "event_time_ms"}
    for name in ("ID_USER", "genero", "ciudad", "linea_tc", "interes_tc", "is_prime"):
        attacked[name][hit] = columns[name][victims]
    attacked["tipo_tc"][hit] = "Virtual"
    attacked["device_score"][hit] = 1.0
    return attacked


def _concept(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    return {"concept": np.where(active, drift.strength, columns["concept"])}


def _missing(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    feature = str(drift.feature)
    hit = active & (rng.random(len(active)) < drift.strength)
    return {feature: _without(columns[feature], hit)}


def _lost_decimals(columns: Columns, active: Array, drift: InjectedDrift, rng: np.random.Generator) -> dict[str, Array]:
    # An upstream parser stops reading decimal commas: whole numbers are kept, all others are null.
    feature = str(drift.feature)
    fraction = columns[feature] % 1 != 0
    return {feature: _without(columns[feature], active & fraction & (rng.random(len(active)) < drift.strength))}


def _without(column: Array, hit: Array) -> Array:
    lost = column.copy()
    lost[hit] = np.nan if column.dtype.kind == "f" else None
    return lost


CATEGORIES = ("establecimiento", "ciudad", "genero", "status_txn")
KINDS = {
    "mean-shift": Kind(_mean_shift, True, "standard deviations", 0.5, -5, 5, ("monto", "linea_tc", "interes_tc")),
    "new-category": Kind(_new_category, True, "share of the new category `Gasolinera`", 0.1, 0, 1, CATEGORIES),
    "virtual-share": Kind(_virtual_share, True, "share of Virtual in tipo_tc", 0.6, 0, 1),
    "attack": Kind(_attack, True, "share of the traffic that belongs to the attack", 0.02, 0, 1),
    "card-testing": Kind(_card_testing, True, "share of the traffic of two hours that tests stolen cards", 0.8, 0, 1),
    "concept": Kind(_concept, True, "how far the signal turns; 1 reverses it", 1.0, 0, 1),
    "missing": Kind(
        _missing, False, "share of missing values", 0.3, 0, 1, (*CATEGORIES, "linea_tc", "interes_tc", "dcto")
    ),
    "lost-decimals": Kind(
        _lost_decimals, False, "share of fractions read as missing", 1.0, 0, 1, ("dcto", "cashback", "monto")
    ),
}


def read_drift(text: str, *, start_ms: int, days: int) -> InjectedDrift:
    """Read ``KIND[:FEATURE][*STRENGTH]@WHEN``; WHEN is an ISO date or time (UTC), or a percentage of the period.

    Raises ConfigError that names the invalid part.

    >>> read_drift("mean-shift:monto*0.25@50%", start_ms=0, days=2)
    InjectedDrift(kind='mean-shift', at_ms=86400000, strength=0.25, feature='monto')
    """
    what, at, when = text.partition("@")
    if not at:
        raise ConfigError(f"drift {text!r}: expected KIND[:FEATURE][*STRENGTH]@WHEN, like missing:dcto*0.5@50%")
    named, _, strength = what.partition("*")
    name, _, feature = named.partition(":")
    kind = KINDS.get(name)
    try:
        power = float(strength) if strength else kind.default if kind else 0.0
    except ValueError:
        raise ConfigError(f"drift {text!r}: strength {strength!r} is not a number") from None
    try:
        if when.endswith("%"):
            at_ms = start_ms + int(float(when[:-1]) / 100 * days * DAY_MS)
        else:
            moment = datetime.fromisoformat(when)
            at_ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except ValueError:
        raise ConfigError(f"drift {text!r}: {when!r} is neither an ISO date or time nor a percentage") from None
    default = kind.features[0] if kind and kind.features else None
    return InjectedDrift(kind=name, at_ms=at_ms, strength=power, feature=feature or default)
