"""A hundred rules as fraud teams write them, with profiles that they read, and batches of transactions for them."""

# ruff: noqa: E501 (tables of rules)

import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.rules import ListEntry, Rule, RulesFile
from scoring.arrays import Array, Ints
from scoring.coded_columns import CodedColumns, LevelTable
from scoring.rules.list_state import ListState

PROFILES = """
[[profiles]]
entity = "ID_USER"
windows = ["1h", "7d"]
features = ["count", "sum(monto)", "mean(monto)", "zscore(monto)", "distinct(ciudad)", "is_new(establecimiento)", "seconds_since_last"]

[[profiles]]
entity = "establecimiento"
windows = ["1h"]
features = ["count", "mean(monto)"]

[[profiles]]
entity = "establecimiento"
windows = ["30d"]
label_delay = "7d"
features = ["fraud_rate", "labelled_count"]
"""
# Each with four sets of values for the letters.
TEMPLATES: tuple[tuple[str, dict[str, tuple[Any, Any, Any, Any]]], ...] = (
    ("id_user_count_1h >= A", {"A": (4, 6, 9, 15)}),
    ('id_user_count_1h >= A and monto > B * id_user_mean_monto_7d and tipo_tc == "Virtual"', {"A": (3, 4, 5, 8), "B": (10, 8, 5, 3)}),
    ("monto > A * id_user_mean_monto_7d and monto > B", {"A": (3, 5, 8, 12), "B": (900, 600, 400, 300)}),
    ("id_user_zscore_monto_7d > A and not is_prime", {"A": (3, 4, 5, 6)}),
    ("id_user_is_new_establecimiento == 1 and hour < A and monto > B", {"A": (4, 5, 6, 7), "B": (200, 300, 500, 700)}),
    ("id_user_distinct_ciudad_7d >= A and id_user_seconds_since_last < B", {"A": (3, 4, 5, 6), "B": (300, 600, 900, 1800)}),
    ("score > A and monto > B", {"A": (0.9, 0.8, 0.7, 0.6), "B": (50, 100, 300, 800)}),
    ("score > A and monto > B and id_user_count_7d < C", {"A": (0.8, 0.6, 0.5, 0.4), "B": (100, 200, 400, 900), "C": (2, 3, 4, 5)}),
    ('ID_USER in list("A")', {"A": ("stolen-cards", "watched-cards", "charged-back", "vip-cards")}),
    ('establecimiento in list("risky-merchants") and monto > A', {"A": (50, 100, 200, 400)}),
    ('ciudad in ("A", "B", "C") and monto > D', {"A": ("c1", "c5", "c9", "c13"), "B": ("c2", "c6", "c10", "c14"), "C": ("c3", "c7", "c11", "c15"), "D": (300, 400, 500, 600)}),
    ('device_os == "A" and device_score < B and monto > C', {"A": ("ANDROID", "IOS", "WEB", "ANDROID"), "B": (2, 2, 2, 2), "C": (900, 940, 960, 980)}),
    ("monto > A * linea_tc", {"A": (0.5, 0.7, 0.8, 0.95)}),
    ("monto + id_user_sum_monto_1h > A * linea_tc and id_user_count_1h >= B", {"A": (0.6, 0.8, 0.9, 1.0), "B": (2, 3, 4, 5)}),
    ('status_txn == "A" and id_user_count_1h >= B', {"A": ("Rechazada", "En proceso", "Rechazada", "En proceso"), "B": (2, 3, 5, 7)}),
    ("establecimiento_fraud_rate_30d > A and establecimiento_labelled_count_30d >= B", {"A": (0.05, 0.1, 0.2, 0.3), "B": (20, 10, 10, 5)}),
    ("establecimiento_count_1h > A and monto < B", {"A": (50, 100, 200, 400), "B": (2, 5, 5, 10)}),
    ("abs(monto - establecimiento_mean_monto_1h) > A and hour >= B", {"A": (300, 500, 800, 1000), "B": (20, 21, 22, 23)}),
    ("coalesce(device_score, 0) < A and day_of_week >= 5 and monto > B", {"A": (2, 2, 2, 2), "B": (900, 940, 960, 980)}),
    ('genero != "A" and is_prime and dcto / monto > B', {"A": ("F", "M", "F", "M"), "B": (0.2, 0.3, 0.4, 0.5)}),
    ("(hour < A or hour >= B) and monto > C and id_user_count_7d == 0", {"A": (5, 5, 6, 6), "B": (23, 22, 22, 21), "C": (100, 200, 300, 500)}),
    ('starts_with(establecimiento, "A") and id_user_is_new_establecimiento == 1', {"A": ("m1", "m2", "m3", "m7")}),
    ('tipo_tc == "Virtual" and interes_tc > A and monto > B', {"A": (61, 62, 62, 63), "B": (900, 920, 940, 960)}),
    ("cashback > A * monto and not (tipo_tc == \"Virtual\" and is_prime)", {"A": (0.02, 0.05, 0.1, 0.2)}),
    ("id_user_seconds_since_last < A and monto > B and max(id_user_count_1h, establecimiento_count_1h) > C", {"A": (30, 60, 120, 300), "B": (50, 100, 150, 200), "C": (3, 5, 8, 10)}),
)  # fmt: skip
CARD_LISTS = ("stolen-cards", "watched-cards", "charged-back", "vip-cards")
EFFECTS = ("decline", "challenge", "review", "allow")


VARIANTS = 10  # of each rule on fields


class ExampleBatch(NamedTuple):
    """What rules read of n transactions."""

    columns: CodedColumns
    keys: list[str]
    scores: Array
    event_time_ms: Ints


def example_dataset() -> Dataset:
    """card_transactions with profiles of card holders and merchants."""
    shipped = (resources.files("schemas.dataset") / "card_transactions.toml").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "card_transactions.toml"
        path.write_text(shipped + PROFILES, encoding="utf-8")
        return load_dataset(str(path))


def example_rules() -> RulesFile:
    """A hundred rules."""
    rules = []
    for number, (template, values) in enumerate(TEMPLATES):
        for which in range(4):
            when = template
            for letter, choices in values.items():
                when = _filled(when, letter, str(choices[which]))
            rules.append(_rule(f"rule-{number}-{which}", when, which))
    return RulesFile(rules=tuple(rules))


def field_rules() -> RulesFile:
    """A hundred rules that card_transactions can evaluate without profiles: variants with other numbers."""
    templates = [(t, v) for t, v in TEMPLATES if "id_user_" not in t and "establecimiento_" not in t]
    rules = []
    for number, (template, values) in enumerate(templates):
        for variant in range(VARIANTS):
            when = template
            for letter, choices in values.items():
                value = choices[variant % 4]
                when = _filled(when, letter, value if isinstance(value, str) else f"{value * (1 + 0.03 * variant):.6g}")
            rules.append(_rule(f"rule-{number}-{variant}", when, variant % 4))
    return RulesFile(rules=tuple(rules))


def card_entries(n: int) -> list[ListEntry]:
    """Entries of n cards on four lists; few of them are in the simulated traffic."""
    return [_entry(CARD_LISTS[i % 4], "ID_USER", f"user-{i}" if i % 100 else str(1_000 + i)) for i in range(n)]


def example_lists(n_cards: int) -> ListState:
    """Four lists of cards and one of merchants."""
    entries = [_entry(CARD_LISTS[i % 4], "ID_USER", f"user-{i}") for i in range(n_cards)]
    return ListState().updated([*entries, *(_entry("risky-merchants", "establecimiento", f"m{i}") for i in range(20))])


def example_batches(n: int, count: int, *, missing: float, n_users: int = 1_000_000) -> list[ExampleBatch]:
    """Batches of n transactions whose categories have one table of levels, as those of a worker.

    missing: share of missing values in optional fields and profiles.
    """
    rng = np.random.default_rng(17)
    tables = {name: LevelTable() for name in LEVELS}
    for name, (prefix, size) in LEVELS.items():
        for i in range(size):
            tables[name].add(f"{prefix}{i}" if isinstance(prefix, str) else prefix[i])
    return [_batch(rng, tables, n, missing, n_users) for _ in range(count)]


LEVELS: dict[str, tuple[str | tuple[str, ...], int]] = {
    "genero": (("F", "M"), 2),
    "device_os": (("ANDROID", "IOS", "WEB"), 3),
    "establecimiento": ("m", 2_000),
    "ciudad": ("c", 50),
    "tipo_tc": (("Virtual", "Física"), 2),
    "status_txn": (("Aceptada", "En proceso", "Rechazada"), 3),
}


def _batch(
    rng: np.random.Generator, tables: dict[str, LevelTable], n: int, missing: float, n_users: int
) -> ExampleBatch:
    amount = rng.lognormal(5, 1, n)
    mean = rng.lognormal(5, 0.7, n)
    numbers = {
        "monto": amount,
        "hour": rng.integers(0, 24, n).astype(float),
        "day_of_week": rng.integers(0, 7, n).astype(float),
        "device_model": rng.integers(2012, 2021, n).astype(float),
        "device_score": rng.integers(1, 6, n).astype(float),
        "linea_tc": rng.lognormal(10, 0.5, n),
        "interes_tc": rng.uniform(20, 60, n),
        "is_prime": rng.integers(0, 2, n).astype(float),
        "dcto": amount * rng.choice([0, 0, 0.15, 0.35], n),
        "cashback": amount * rng.uniform(0, 0.1, n),
        "id_user_count_1h": rng.poisson(0.5, n).astype(float),
        "id_user_count_7d": rng.poisson(4, n).astype(float),
        "id_user_sum_monto_1h": rng.lognormal(4, 2, n),
        "id_user_sum_monto_7d": rng.lognormal(6, 1, n),
        "id_user_mean_monto_1h": mean,
        "id_user_mean_monto_7d": mean,
        "id_user_zscore_monto_1h": rng.normal(0, 1.5, n),
        "id_user_zscore_monto_7d": rng.normal(0, 1.5, n),
        "id_user_distinct_ciudad_1h": rng.poisson(0.5, n).astype(float),
        "id_user_distinct_ciudad_7d": rng.poisson(1.5, n).astype(float),
        "id_user_is_new_establecimiento": rng.integers(0, 2, n).astype(float),
        "id_user_seconds_since_last": rng.exponential(50_000, n),
        "establecimiento_count_1h": rng.poisson(30, n).astype(float),
        "establecimiento_mean_monto_1h": mean,
        "establecimiento_fraud_rate_30d": rng.beta(1, 60, n),
        "establecimiento_labelled_count_30d": rng.poisson(30, n).astype(float),
    }
    required = ("monto", "hour", "day_of_week")
    for name, column in numbers.items():
        if name not in required:
            column[rng.random(n) < missing] = np.nan
    categories = {}
    for name, table in tables.items():
        indices = rng.integers(1, len(table), n)
        indices[rng.random(n) < missing] = 0
        categories[name] = indices, table
    return ExampleBatch(
        columns=CodedColumns((*numbers, *categories), numbers, categories),
        keys=[f"user-{i}" for i in rng.integers(0, n_users, n).tolist()],
        scores=rng.beta(1, 20, n),
        event_time_ms=np.full(n, 1_780_000_000_000),
    )


def _filled(text: str, letter: str, value: str) -> str:
    """The text with a letter that is a word of its own replaced."""
    for before in (" ", '"', "("):
        for after in (" ", '"', ")", ","):
            text = text.replace(before + letter + after, before + value + after)
    return text[: -len(letter)] + value if text.endswith(" " + letter) else text


def _rule(name: str, when: str, which: int) -> Rule:
    form = {"id": name, "effect": EFFECTS[which], "mode": "live" if which else "shadow"}
    return Rule(version=1, when=when, reason="as fraud teams write them", **form)  # type: ignore[arg-type]


def _entry(name: str, field: str, value: str) -> ListEntry:
    return ListEntry(list=name, field=field, value=value, effect=None, reason="import", by="bench", at_ms=0)
