"""Mistakes in a declaration's profiles: each is one line that names the file, the table, the value and the remedy."""

# ruff: noqa: E501 (a table of lines as they are shown)

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from schemas.dataset.declaration import load_dataset
from schemas.dataset.profiles import AGGREGATES
from schemas.errors import SchemaError

DECLARATION: dict[str, Any] = {
    "name": "shop",
    "key": "card",
    "label": "fraud",
    "transaction_id": "id",
    "features": ["amount", "hour"],
    "event_time": {"date": "at", "formats": ["%Y-%m-%d"]},
    "fields": [
        {"name": "amount", "kind": "number"},
        {"name": "merchant", "kind": "category"},
        {"name": "city", "kind": "category"},
        {"name": "online", "kind": "boolean"},
        {"name": "device", "kind": "mapping", "entries": [{"name": "os", "key": "os", "kind": "category"}]},
    ],
    "profiles": [
        {"entity": "card", "windows": ["1h", "7d"], "features": ["count", "distinct(merchant)", "seconds_since_last"]},
        {"entity": "merchant", "windows": ["1d"], "lag": "10m", "features": ["count", "mean(amount)"]},
        {"entity": "os", "windows": ["30d"], "label_delay": "7d", "base_rate": 0.02, "features": ["fraud_rate"]},
    ],
}
KEY_AGGREGATES = "Aggregates of the key: count, sum, mean, max, std, ratio, ratio_max, zscore, distinct, seconds_since_last, is_new"  # fmt: skip
TILE_AGGREGATES = "Aggregates of other entities: count, sum, mean, max, std, ratio, ratio_max, zscore"
LABEL_AGGREGATES = (
    "Aggregates of labels: labelled_count, fraud_count, fraud_rate, frauds_in_row, last_label, seconds_since_fraud"
)

CARD, MERCHANT, OS = 0, 1, 2
# Profile, what is set in it (None: removed), the line.
MISTAKES: list[tuple[int, dict[str, Any], str]] = [
    (CARD, {"entity": "crad"}, "no such entity; did you mean 'card'? An entity is the key or a category: 'card', 'merchant', 'city', 'os'"),
    (CARD, {"entity": "amount"}, "the entity is a number; declare the field with kind = \"category\", or name 'card', 'merchant', 'city', 'os'"),
    (CARD, {"entity": "fraud"}, "the label cannot be an entity; name 'card', 'merchant', 'city', 'os', and label_delay for the fraud rate of it"),
    (CARD, {"features": []}, 'the list of features is empty; name one or more, such as "count"'),
    (CARD, {"features": ["Count"]}, f"feature 'Count': no aggregate 'Count'; did you mean 'count'? {KEY_AGGREGATES}"),
    (CARD, {"features": ["velocity"]}, f"feature 'velocity': no aggregate 'velocity'. {KEY_AGGREGATES}"),
    (CARD, {"features": ["count "]}, ""),
    (CARD, {"features": ["count 1h"]}, f"feature 'count 1h': not of the form \"count\" or \"mean(FIELD)\"; the windows are in `windows`. {KEY_AGGREGATES}"),
    (CARD, {"features": ["count", "count"]}, "feature 'count': listed twice; remove one"),
    (CARD, {"features": ["mean(amount)", "mean( amount )"]}, "feature 'mean(amount)': listed twice; remove one"),
    (CARD, {"features": ["fraud_rate"]}, f"feature 'fraud_rate': fraud_rate is computed from labels: set label_delay, such as \"7d\". {KEY_AGGREGATES}"),
    (MERCHANT, {"features": ["distinct(city)"]}, f"feature 'distinct(city)': distinct is for profiles of the key 'card'; other entities are seen through counts and sums that all partitions add up. {TILE_AGGREGATES}"),
    (MERCHANT, {"features": ["last_label"]}, f"feature 'last_label': last_label is computed from labels: set label_delay, such as \"7d\". {TILE_AGGREGATES}"),
    (OS, {"features": ["count"]}, f"feature 'count': count is not computed from labels: declare it in a profile of this entity without label_delay. {LABEL_AGGREGATES}"),
    (OS, {"entity": "card", "features": ["is_new(city)"]}, f"feature 'is_new(city)': is_new is not computed from labels: declare it in a profile of the key without label_delay. {LABEL_AGGREGATES}"),
    (CARD, {"features": ["mean"]}, "feature 'mean': mean needs a field of kind number; write \"mean(amount)\""),
    (CARD, {"features": ["count(amount)"]}, "feature 'count(amount)': count has no field; write \"count\""),
    (CARD, {"features": ["mean(amout)"]}, "feature 'mean(amout)': no field or entry 'amout'; did you mean 'amount'? Fields of kind number: 'amount', 'hour', 'day_of_week'"),
    (CARD, {"features": ["mean(online)"]}, "feature 'mean(online)': 'online' is a boolean, and mean needs a number: 'amount', 'hour', 'day_of_week'"),
    (CARD, {"features": ["distinct(amount)"]}, "feature 'distinct(amount)': 'amount' is a number, and distinct needs a category: 'merchant', 'city', 'os'"),
    (CARD, {"features": ["is_new(device)"]}, "feature 'is_new(device)': no field or entry 'device'. Fields of kind category: 'merchant', 'city', 'os'"),
    (CARD, {"features": ["distinct(card)"]}, "feature 'distinct(card)': the entity has one value of itself; name another category: 'merchant', 'city', 'os'"),
    (CARD, {"features": ["sum(fraud)"]}, "feature 'sum(fraud)': the label is not known when a transaction is scored; for the fraud rate of an entity, declare a profile with label_delay and \"fraud_rate\""),
    (CARD, {"windows": None}, 'windows is missing; list one or more, such as windows = ["1d", "7d"]'),
    (CARD, {"windows": ["1w"]}, "window '1w': no duration; write a whole number of m, h or d, such as '30m', '1h' or '7d'"),
    (CARD, {"windows": ["1,5h"]}, "window '1,5h': no duration; write a whole number of m, h or d, such as '30m', '1h' or '7d'"),
    (CARD, {"windows": ["٣h"]}, "window '٣h': no duration; write a whole number of m, h or d, such as '30m', '1h' or '7d'"),
    (CARD, {"windows": ["4m"]}, "window '4m': the shortest is '5m'"),
    (CARD, {"windows": ["366d"]}, "window '366d': the longest is '365d'"),
    (CARD, {"windows": ["1d", "1d"]}, "window '1d': listed twice; remove one"),
    (CARD, {"windows": ["24h", "7d", "1d"]}, "window '1d': the same as '24h'; remove one"),
    (CARD, {"features": ["seconds_since_last"]}, "windows 1h, 7d: none of the features is computed by window; keep the longest, windows = [\"7d\"], which sets how far back they look"),
    (CARD, {"lag": "5m"}, "lag '5m': a profile of the key is exact; remove lag"),
    (OS, {"lag": "5m"}, "lag '5m': label_delay defines which labels count; remove lag"),
    (MERCHANT, {"lag": "soon"}, "lag 'soon': no duration; write a whole number of m, h or d, such as '30m', '1h' or '7d'"),
    (MERCHANT, {"lag": "1d"}, "window '1d': not longer than the lag of '1d', so it would be empty; lengthen it"),
    (MERCHANT, {"windows": ["5m"], "lag": None}, "window '5m': not longer than the lag of '10m', so it would be empty; lengthen it"),
    (OS, {"label_delay": "0d"}, "label_delay '0d': no duration; write a whole number of m, h or d, such as '30m', '1h' or '7d'"),
    (OS, {"label_delay": "400d"}, "label_delay '400d': the longest is '365d'"),
    (OS, {"base_rate": 2.0}, "base_rate 2.0: a share of frauds between 0 and 1, such as 0.01 for 1 %"),
    (OS, {"base_rate": float("nan")}, "base_rate nan: a share of frauds between 0 and 1, such as 0.01 for 1 %"),
    (OS, {"features": ["labelled_count"]}, 'base_rate 0.02: used by "fraud_rate" only; add that to the features, or remove base_rate'),
    (CARD, {"base_rate": 0.1}, "base_rate 0.1: for profiles of labels only; set label_delay, or remove base_rate"),
    (CARD, {"windows": [f"{hours}h" for hours in range(1, 202)], "features": ["count"]}, "201 features with this profile; a data set may have 200: remove windows or features"),
    (CARD, {"window": ["1h"]}, "unknown key 'window'; did you mean 'windows'? Known are entity, features, windows, lag, label_delay, base_rate"),
]  # fmt: skip
LARGER: dict[str, tuple[dict[str, Any], str]] = {
    "label profile without a label": (
        {"label": None},
        "profile 3 ('os'): label_delay needs a label, and the data set declares none: set label = \"FIELD\", or remove "
        "label_delay",
    ),
    "data set without a key": (
        {"key": ""},
        "profile 1 ('card'): no such entity. An entity is the key or a category: 'merchant', 'city', 'os'; the data "
        'set has no key (key = "")',
    ),
    "aggregate of the key in a data set without one": (
        {"key": "", "profiles": [{"entity": "city", "windows": ["1d"], "features": ["is_new(merchant)"]}]},
        "profile 1 ('city'): feature 'is_new(merchant)': is_new is for profiles of a key, which this data set does not "
        f"have; other entities are seen through counts and sums that all partitions add up. {TILE_AGGREGATES}",
    ),
    "name of a field": (
        {"fields": [*DECLARATION["fields"], {"name": "card_count_1h", "kind": "number"}]},
        "profile 1 ('card'): feature 'count' of window '1h' is named 'card_count_1h', and so is the field "
        "'card_count_1h'; remove or rename one",
    ),
    "name of the transaction id": (
        {"transaction_id": "card_count_1h"},
        "profile 1 ('card'): feature 'count' of window '1h' is named 'card_count_1h', and so is the field "
        "'card_count_1h'; remove or rename one",
    ),
    "two profiles of one entity": (
        {"profiles": [DECLARATION["profiles"][MERCHANT]] * 2},
        "profile 2 ('merchant'): feature 'count' of window '1d' is named 'merchant_count_1d', and so is 'count' of "
        "window '1d' of profile 1; remove or rename one",
    ),
    "fields that differ by punctuation": (
        {
            "fields": [{"name": name, "kind": "number"} for name in ("amount", "net amount", "Net-Amount")],
            "profiles": [{"entity": "card", "windows": ["1d"], "features": ["max(net amount)", "max(Net-Amount)"]}],
        },
        "profile 1 ('card'): feature 'max(Net-Amount)' of window '1d' is named 'card_max_net_amount_1d', and so is "
        "'max(net amount)' of window '1d' of profile 1; remove or rename one",
    ),
    "field without a letter": (
        {
            "fields": [{"name": name, "kind": "number"} for name in ("amount", "€")],
            "profiles": [{"entity": "card", "windows": ["1d"], "features": ["max(€)"]}],
        },
        "profile 1 ('card'): '€' has no letter or digit to name a feature by; rename the field",
    ),
    "long name": (
        {"key": "k" * 200, "profiles": [{"entity": "k" * 200, "windows": ["1d"], "features": ["count"]}]},
        f"profile 1 ({'k' * 200!r}): feature 'count': the name '{'k' * 40}…' has 209 characters, at most 200 fit; "
        "rename the field",
    ),
    "profile feature among the features": (
        {"features": ["amount", "card_count_1h"]},
        "field 'card_count_1h': listed as a feature, but no field or entry has this name; a profile's features are "
        "added without being listed",
    ),
    "windows of another type": (
        {"profiles": [{"entity": "card", "windows": "1h", "features": ["count"]}]},
        "profile 1 ('card'), windows: must be a list, and is a text in quotation marks",
    ),
    "no entity": ({"profiles": [{"windows": ["1h"], "features": ["count"]}]}, "profile 1: 'entity' is missing"),
    "profiles as a table": ({"profiles": {"entity": "card"}}, "profiles: must be a list, and is a table"),
}


def as_toml(values: dict[str, Any]) -> str:
    return "\n".join(f"{_toml(key)} = {_toml(value)}" for key, value in values.items() if value is not None)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool | float) else json.dumps(value)


def fault(folder: Path, values: dict[str, Any]) -> str:
    """The error of a declaration without the file's name; empty if it is valid."""
    path = folder / "shop.toml"
    path.write_text(as_toml(values), encoding="utf-8")
    try:
        load_dataset(str(path))
    except SchemaError as error:
        line = str(error)
    else:
        return ""
    assert line.isprintable(), repr(line)
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def test_profiles_without_a_mistake_are_features_in_order(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(as_toml(DECLARATION))
    dataset = load_dataset(str(path))
    assert [f.name for f in dataset.features] == [
        "amount",
        "hour",
        "card_count_1h",
        "card_count_7d",
        "card_distinct_merchant_1h",
        "card_distinct_merchant_7d",
        "card_seconds_since_last",
        "merchant_count_1d",
        "merchant_mean_amount_1d",
        "os_fraud_rate_30d",
    ]


@pytest.mark.parametrize(
    ("number", "changes", "line"), MISTAKES, ids=[f"{n} {json.dumps(c)[:50]}" for n, c, _ in MISTAKES]
)
def test_a_mistake_in_a_table_is_one_line(tmp_path: Path, number: int, changes: dict[str, Any], line: str) -> None:
    values = copy.deepcopy(DECLARATION)
    values["profiles"][number] |= changes
    entity = values["profiles"][number]["entity"]
    assert fault(tmp_path, values) == (f"profile {number + 1} ({entity!r}): {line}" if line else "")


@pytest.mark.parametrize(("changes", "line"), LARGER.values(), ids=LARGER)
def test_a_mistake_across_the_file_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    assert fault(tmp_path, copy.deepcopy(DECLARATION) | changes) == line


def test_the_lines_of_aggregates_name_all_that_there_are() -> None:
    named = " ".join((KEY_AGGREGATES, TILE_AGGREGATES, LABEL_AGGREGATES))
    assert all(aggregate in named for aggregate in AGGREGATES)


TEXTS = [*AGGREGATES, "card", "merchant", "amount", "fraud", "at", "", "(", "mean(", "count()", "\n", "\x00", "é", "٣d",
         "1h", "7d", "999999d", "0m", "-1h", "<undecided>", "mean(amount)", "sum(sum(amount))", "€", "%", "%Y"]  # fmt: skip
VALUES = [*TEXTS, 0, -1, 2**63, 10**400, 0.5, float("nan"), float("inf"), True, [], {}, [[]], [1], {"a": 1}, None]


def mutated(rng: random.Random) -> dict[str, Any]:
    """The declaration with one to four random changes, mostly of its profiles."""
    values = copy.deepcopy(DECLARATION)
    for _ in range(rng.randint(1, 4)):
        node: Any = values.get("profiles") if rng.random() < 0.7 else values
        while isinstance(node, dict | list) and node:
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if isinstance(node[key], dict | list) and rng.random() < 0.8:
                node = node[key]
                continue
            choice = rng.random()
            if choice < 0.6:
                node[key] = copy.deepcopy(rng.choice(VALUES))
            elif choice < 0.7:
                del node[key]
            elif isinstance(node, list):
                node.append(copy.deepcopy(rng.choice([node[key], rng.choice(VALUES)])))
            else:
                node[rng.choice(TEXTS)] = copy.deepcopy(rng.choice(VALUES))
            break
    return values


def test_no_declaration_raises_anything_but_a_schema_error(tmp_path: Path) -> None:
    rng = random.Random(15)
    lines = [fault(tmp_path, mutated(rng)) for _ in range(int(os.environ.get("TAMIZ_FUZZ_DECLARATIONS", "300")))]
    assert lines.count("") < len(lines) * 0.6
    assert len(set(lines)) > 80


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("name = " + "[" * 100_000, id="deep"),
        pytest.param("name = " + "9" * 5_000, id="long integer"),
        pytest.param("name = 1\nname = 2", id="twice"),
    ],
)
def test_what_is_no_toml_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    with pytest.raises(SchemaError, match="not a TOML file") as caught:
        load_dataset(str(path))
    assert "\n" not in str(caught.value)


def test_type_faults_name_the_field_of_the_declaration(tmp_path: Path) -> None:
    def changed(place: str, value: Any) -> str:
        values: Any = copy.deepcopy(DECLARATION)
        *steps, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        node = values
        for step in steps:
            node = node[step]
        node[last] = value
        return fault(tmp_path, values)

    assert (
        changed("fields.0.kind", 3) == "field 'amount', kind: must be a text in quotation marks, and is a whole number"
    )
    assert changed("fields.0.kind", "money") == (
        "field 'amount', kind: 'money' is not one of number, boolean, category, mapping"
    )
    assert changed("fields.0.minimum", 3).startswith(
        "field 'amount': unknown key 'minimum'; did you mean 'min'? Known are"
    )
    assert changed("fields.4.entries.0.key", 3) == (
        "field 'device', entry 'os', key: must be a text in quotation marks, and is a whole number"
    )
    assert changed("fields.1.name", None) == "field 2: 'name' is missing"
    assert (
        changed("event_time.formats", "%Y") == "event_time, formats: must be a list, and is a text in quotation marks"
    )
    assert changed("event_time.repeated_hour", "both") == (
        "event_time, repeated_hour: 'both' is not one of reject, earlier, later"
    )
    assert changed("lable", "fraud").startswith("unknown key 'lable'; did you mean 'label'? Known are name, key,")
