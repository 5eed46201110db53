"""Random conditions of rules, columns that they read, and texts that are none."""

import random
from collections.abc import Sequence

import numpy as np

from scoring.arrays import Array, Columns
from scoring.coded_columns import CodedColumns, LevelTable

NUMBERS = ("monto", "linea_tc", "dcto", "hour", "device_model", "score")  # of card_transactions
BOOLEAN, TEXTS, KEY = "is_prime", ("ciudad", "tipo_tc", "genero"), "ID_USER"
LEVELS = ("Virtual", "Física", "F", "M", "San José", "7")
KEYS = ("u1", "u2", "u3", "u44")
LISTS = ("stolen", "trusted")
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.5, -3.0, 1e308, -1e308, 1e-320)
# What random texts are made of: parts of the language, of Python, and what neither has.
PIECES = (
    *("monto", "score", "is_prime", "ciudad", "ID_USER", "mont", "1", "0.5", "1e6", "1e999", "1_0", "0x1", "1j", "007"),
    *(".5", "5.", "9" * 400, "and", "or", "not", "in", "is", "missing", "list", "(", ")", "[", "]", "{", "}", ",", "<"),
    *("<=", ">", ">=", "==", "!=", "=", "+", "-", "*", "/", "%", "**", "//", "@", "&", "|", "^", "~", ":", ":=", ";"),
    *(".", "?", "!", "$", "#", "\\", "lambda", "if", "else", "for", "await", "yield", "None", "True", "false", "def"),
    *("abs(", "min(", "coalesce(", "field(", "starts_with(", "list(", "'", '"', '"a"', "'é'", '"\\"', 'f"{monto}"'),
    *('b"x"', '"""', "ﬁeld", "аmount", "ª", "٣", "\x00", "\ud800", "\u202e", "\n", "\t", " ", "\x0c", "\u2028"),
    *("\U0001f600", "x" * 300, "(" * 60, "-" * 60, "not " * 60, "monto+" * 60),
)


def random_condition(rng: random.Random, depth: int) -> str:
    """A condition that the language accepts."""
    if depth > 0 and rng.random() < 0.6:
        parts = [random_condition(rng, depth - 1) for _ in range(rng.randint(2, 3))]
        joined = f" {rng.choice(['and', 'or'])} ".join(parts)
        return f"not ({joined})" if rng.random() < 0.3 else f"({joined})"
    while True:  # a condition must read a field
        test = _random_test(rng)
        if any(name in test for name in (*NUMBERS, BOOLEAN, *TEXTS, KEY)):
            return test


def _random_test(rng: random.Random) -> str:
    text = rng.choice(TEXTS)
    match rng.randrange(11):
        case 0:
            return rng.choice((BOOLEAN, f"not {BOOLEAN}", f"{BOOLEAN} == true", f"false != {BOOLEAN}"))
        case 1:
            return f"{text} {rng.choice(('==', '!='))} {rng.choice([repr(rng.choice(LEVELS)), *TEXTS])}"
        case 2:
            return f"{text} {rng.choice(('in', 'not in'))} ({_listed(rng, LEVELS)})"
        case 3:
            function = rng.choice(("starts_with", "ends_with", "contains"))
            return f'{function}({rng.choice((text, KEY))}, "{rng.choice("FaeuS1")}")'
        case 4:
            return f'{rng.choice((text, KEY))} {rng.choice(("in", "not in"))} list("{rng.choice(LISTS)}")'
        case 5:
            return f"{KEY} in ({_listed(rng, KEYS)})"
        case 6:
            tested = rng.choice((text, BOOLEAN, f"({_number(rng, 2)})"))
            return f"{tested} is {rng.choice(('', 'not '))}missing"
        case 7:
            return f"{_number(rng, 1)} in [{rng.choice((0, 1, -3, 2.5))}, {rng.choice((0, 1, -3))}]"
        case 8:
            return f"{_number(rng, 1)} <= {_number(rng, 1)} {rng.choice(('<', '==', '>='))} {_number(rng, 1)}"
        case _:
            return f"{_number(rng, 2)} {rng.choice(('<', '<=', '>', '>=', '==', '!='))} {_number(rng, 2)}"


def _number(rng: random.Random, depth: int) -> str:
    if depth > 0 and rng.random() < 0.5:
        first, second = _number(rng, depth - 1), _number(rng, depth - 1)
        match rng.randrange(6):
            case 0:
                return f"-({first})"
            case 1:
                return f"{rng.choice(('min', 'max', 'coalesce'))}({first}, {second}, {rng.choice(NUMBERS)})"
            case 2:
                return f"abs({first})"
            case _:
                return f"({first} {rng.choice('+-*/')} {second})"
    return rng.choice(NUMBERS) if rng.random() < 0.8 else rng.choice(("0", "1", "2.5", "-3", "1e308", "1e-300"))


def _listed(rng: random.Random, values: Sequence[str]) -> str:
    return ", ".join(map(repr, rng.sample(values, rng.randint(1, 3)))) + rng.choice(("", ","))


def hostile_text(rng: random.Random) -> str:
    """Random pieces, or a condition that was damaged, so little sometimes that it still is one."""
    if rng.random() < 0.4:
        return rng.choice(("", " ")).join(rng.choices(PIECES, k=rng.randint(1, 12)))
    text = random_condition(rng, 2)
    at = rng.randrange(len(text))
    return text[:at] + rng.choice((rng.choice(PIECES), " ", "")) + text[at + rng.randint(0, 2) :]


def random_columns(rng: random.Random, n: int) -> tuple[Columns, list[str], Array]:
    """Columns of card_transactions as arrays of objects, keys and scores."""
    generator = np.random.default_rng(rng.randrange(2**32))
    columns: dict[str, Array] = {}
    for name in NUMBERS[:-1]:
        values = generator.choice(SPECIAL, n)
        columns[name] = np.where(generator.random(n) < 0.5, generator.integers(-3, 4, n).astype(float), values)
    columns[BOOLEAN] = generator.choice([0.0, 1.0, np.nan], n)
    for name in TEXTS:
        columns[name] = generator.choice(np.array([*LEVELS, None], object), n)
    return columns, generator.choice(KEYS, n).tolist(), generator.random(n)


def coded(columns: Columns) -> CodedColumns:
    """The same columns, with categories as indices into tables of levels."""
    tables = {name: LevelTable() for name in TEXTS}
    categories = {name: (np.array([t.add(v) for v in columns[name]], np.intp), t) for name, t in tables.items()}
    numbers = {name: column for name, column in columns.items() if name not in TEXTS}
    return CodedColumns(tuple(columns), numbers, categories)
