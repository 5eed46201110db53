"""Injects drift of a named kind from a given time on. Each kind is one small function.

Some kinds change the *world* (what people buy, who attacks, what fraud looks like): amounts, labels and all that
follows from them move along. Others change only what is *seen* of it (a broken pipeline): the truth stays as it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from schemas.errors import ConfigError
from schemas.time_units import DAY_MS
from scoring.arrays import Array, Columns

NEW_CATEGORY = "Gasolinera"
ATTACKED_CARDS = 5
MIN_MONTO = 0.02  # smaller ones would need an exponent in `cashback`
# Standard deviations of the rules in `tamiz.simulation.simulator`: uniform over an interval, uniform over equal steps.
SIGMA = {"monto": 1000 / 12**0.5, "linea_tc": 1000 * ((75**2 - 1) / 12) ** 0.5, "interes_tc": ((33**2 - 1) / 12) ** 0.5}


@dataclass(frozen=True, kw_only=True)
class InjectedDrift:
    """A change of the traffic from event time `at_ms` on.

    strength: what it measures depends on the kind, see `KINDS`.
    feature: the field concerned, for the kinds that concern one.
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
            wanted = f"one of {', '.join(kind.features)}" if kind.features else "none"
            raise ConfigError(f"drift {self.kind}: feature {self.feature!r}, wanted {wanted}")


class Kind(NamedTuple):
    """One kind of drift. The first of `features` is the default."""

    apply: Callable[[Columns, Array, InjectedDrift, np.random.Generator], dict[str, Array]]
    of_world: bool
    strength: str
    default: float
    lowest: float
    highest: float
    features: tuple[str, ...] = ()


def drifted(
    columns: Columns, drifts: tuple[InjectedDrift, ...], seed: np.random.SeedSequence, *, world: bool
) -> Columns:
    """The columns after those drifts that change the world (or, `world=False`, only what is seen of it).

    Each drift draws from a stream of its own, so that adding one leaves the others as they were.
    """
    for drift, child in zip(drifts, seed.spawn(len(drifts)), strict=True):
        kind = KINDS[drift.kind]
        if kind.of_world == world:
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
    # A few stolen cards, high amounts, online, from devices of the lowest score.
    hit = np.flatnonzero(active & (rng.random(len(active)) < drift.strength))
    if not len(hit):
        return {}
    cards = rng.choice(len(active), ATTACKED_CARDS)  # rows whose card holders are attacked
    victims = cards[rng.integers(0, ATTACKED_CARDS, len(hit))]
    attacked = {name: columns[name].copy() for name in columns if name != "event_time_ms"}
    for name in ("ID_USER", "genero", "ciudad", "linea_tc", "interes_tc", "is_prime"):
        attacked[name][hit] = columns[name][victims]
    attacked["monto"][hit] = np.round(rng.uniform(800, 1000, len(hit)), 7)
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
    # Somebody's parser stopped reading decimal commas: whole numbers come through, all others are null.
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
    "new-category": Kind(_new_category, True, "share that is `Gasolinera`", 0.1, 0, 1, CATEGORIES),
    "virtual-share": Kind(_virtual_share, True, "share of Virtual in tipo_tc", 0.6, 0, 1),
    "attack": Kind(_attack, True, "share of the traffic that is the attack", 0.02, 0, 1),
    "concept": Kind(_concept, True, "how far the signal turns: 1 is into its opposite", 1.0, 0, 1),
    "missing": Kind(
        _missing, False, "share that goes missing", 0.3, 0, 1, (*CATEGORIES, "linea_tc", "interes_tc", "dcto")
    ),
    "lost-decimals": Kind(
        _lost_decimals, False, "share of broken readers of decimals", 1.0, 0, 1, ("dcto", "cashback", "monto")
    ),
}


def read_drift(text: str, *, start_ms: int, days: int) -> InjectedDrift:
    """Read ``KIND[:FEATURE][*STRENGTH]@WHEN``; WHEN is an ISO date or time (UTC), or a percentage of the period.

    Raises ConfigError naming what is wrong with it.

    >>> read_drift("mean-shift:monto*0.25@50%", start_ms=0, days=2)
    InjectedDrift(kind='mean-shift', at_ms=86400000, strength=0.25, feature='monto')
    """
    what, at, when = text.partition("@")
    if not at:
        raise ConfigError(f"drift {text!r}: wanted KIND[:FEATURE][*STRENGTH]@WHEN, as mean-shift:monto*0.5@2020-01-15")
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
