"""A model and a declaration: what changes the meaning of a feature is named, anything else is no difference."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import ModelIncompatibleError
from scoring.bundle.declaration_match import check_declaration, manifest_mismatch
from scoring.bundle.feature_definitions import FeatureDefinitions, definition_differences, feature_definitions
from tests.helpers.bundles.small_bundle import history, manifest_of, small_booster
from tests.unit.schemas.test_profile_checks import DECLARATION, as_toml

TRAINED: dict[str, Any] = DECLARATION | {
    "missing": ["", "NA"],
    "decimal": ".",
    "features": ["amount", "hour", "merchant", "online", "os"],
    "event_time": {"date": "at", "formats": ["%d/%m/%Y"]},
}


def declared(folder: Path, changes: dict[str, Any]) -> Dataset:
    """The declaration with changes by path, such as "fields.0.kind"."""
    values: Any = copy.deepcopy(TRAINED)
    for place, value in changes.items():
        node = values
        *steps, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        for step in steps:
            node = node[step]
        node[last] = value
    path = folder / "shop.toml"
    path.write_text(as_toml(values), encoding="utf-8")
    return load_dataset(str(path))


def differences(folder: Path, changes: dict[str, Any]) -> list[str]:
    trained, now = (feature_definitions(declared(folder, c)) for c in ({}, changes))
    sent = msgspec.json.decode(msgspec.json.encode(trained), type=FeatureDefinitions)  # as in a manifest
    return definition_differences(sent, now)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"fields.0.min": 0.5, "fields.0.max": 9.0, "fields.1.required": True}, id="ranges and required"),
        pytest.param({"fields.0.currency": ["$"], "fields.0.normalize": True}, id="more texts are numbers"),
        pytest.param({"fields.0.thousands": ","}, id="grouped numbers were rejected until now"),
        pytest.param({"fields.0.missing": ["none"]}, id="a missing number was rejected until now"),
        pytest.param({"fields.3.true_values": ["true", "1", "on"], "fields.3.false_values": ["0"]}, id="more truths"),
        pytest.param({"event_time.formats": ["%d/%m/%Y", "%d.%m.%Y"]}, id="another format of dates"),
        pytest.param({"event_time.repeated_hour": "later"}, id="an hour that was rejected"),
        pytest.param({"fields.2.kind": "number"}, id="a field that no feature uses"),
        pytest.param({"features": ["amount", "hour", "merchant", "online", "os", "city"]}, id="another feature"),
        pytest.param({"profiles.0.windows": ["1h", "7d", "2h"]}, id="another window of the key"),
        pytest.param({"profiles.0.features": ["count", "distinct(merchant)", "max(amount)", "seconds_since_last"]},
                     id="another aggregate"),
        pytest.param({"transaction_id": None, "amount": "amount"}, id="roles"),
    ],
)  # fmt: skip
def test_what_does_not_change_a_value_is_no_difference(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert differences(tmp_path, changes) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"fields.0.decimal": ",", "fields.0.thousands": "."}, "field 'amount': decimal was '.' and is ','"),
        ({"fields.0.missing": ["0"]}, "field 'amount': '0' was a number and is missing"),
        ({"fields.1.missing": ["unknown"]}, "field 'merchant': 'unknown' was a level and is missing"),
        ({"missing": [""]}, "field 'merchant': 'NA' was missing and is a level"),
        ({"fields.3.true_values": ["0"], "fields.3.false_values": ["1"]},
         "field 'online': '1' was true and is false"),
        ({"fields.4.entries.0.key": "system"}, "field 'os': source was 'device.os' and is 'device.system'"),
        ({"event_time.formats": ["%m/%d/%Y"]},
         "event time: '01/02/2001' was read as '%d/%m/%Y' and is read as '%m/%d/%Y'"),
        ({"event_time.zone": "America/Lima"}, "event time: zone was 'UTC' and is 'America/Lima'"),
        ({"event_time.date": "posted"}, "event time: date was 'at' and is 'posted'"),
        ({"profiles.1.lag": "1h"}, "merchant_count_1d: lag was '10m' and is '1h'"),
        ({"profiles.1.windows": ["1d", "1h"]}, "merchant_count_1d: grain was '1h' and is '5m'"),
        ({"profiles.2.label_delay": "3d"}, "os_fraud_rate_30d: label_delay was '7d' and is '3d'"),
        ({"profiles.2.base_rate": 0.5}, "os_fraud_rate_30d: base_rate was 0.02 and is 0.5"),
        ({"profiles.0.windows": ["1h", "7d", "30d"]}, "card_seconds_since_last: window was '7d' and is '30d'"),
    ],
)  # fmt: skip
def test_what_changes_a_value_is_named(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    assert line in differences(tmp_path, changes)


def test_a_key_that_is_no_longer_the_key_changes_its_profiles(tmp_path: Path) -> None:
    profiles = [{"entity": "merchant", "windows": ["1d"], "lag": "10m", "features": ["count"]}]
    now = feature_definitions(declared(tmp_path, {"profiles": profiles}))
    keyed = [{"entity": "merchant", "windows": ["1d"], "features": ["count"]}]
    then = feature_definitions(declared(tmp_path, {"profiles": keyed, "key": "merchant"}))
    assert "merchant_count_1d: kind was 'key' and is 'tiles'" in definition_differences(then, now)


def test_formats_of_a_manifest_that_cannot_be_compiled_are_passed_over(tmp_path: Path) -> None:
    now = feature_definitions(declared(tmp_path, {}))
    assert now.event_time is not None
    hostile = msgspec.structs.replace(now, event_time=msgspec.structs.replace(now.event_time, formats=("%Q(", "%")))
    assert definition_differences(hostile, now) == []


def test_a_model_is_checked_against_name_features_and_meaning(tmp_path: Path) -> None:
    matrix, _ = history()
    manifest = manifest_of(matrix, small_booster())
    dataset = declared(tmp_path, {})
    with pytest.raises(ModelIncompatibleError, match="trained on the data set 'hand-made', and the declaration is of"):
        check_declaration(manifest, dataset, 4)
    manifest = msgspec.structs.replace(manifest, dataset="shop")
    with pytest.raises(ModelIncompatibleError, match="lacks features of the model: monto, ciudad; restore"):
        check_declaration(manifest, dataset, 4)
    names = {"fields.0.name": "monto", "fields.2.name": "ciudad", "features": ["monto", "ciudad"], "profiles": []}
    dataset = declared(tmp_path, names)
    manifest = msgspec.structs.replace(manifest, definitions=feature_definitions(dataset))
    check_declaration(manifest, dataset, 4)
    missing = declared(tmp_path, names | {"fields.2.missing": ["s/d"]})
    with pytest.raises(
        ModelIncompatibleError, match=r"^version 4 .*'ciudad': 's/d' was a level and is missing; restore"
    ):
        check_declaration(manifest, missing, 4)
    current = msgspec.structs.replace(manifest, definitions=feature_definitions(missing))
    assert "'s/d' was a level" in str(manifest_mismatch(manifest, current))
