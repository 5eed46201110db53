"""The drift reference is fitted in training, stored in the bundle, and refused when it does not match the model."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from monitoring.alerting.incidents import correlated_groups
from monitoring.counting.counted_features import counted_bins
from monitoring.drift.reference import load_reference
from schemas.errors import ModelIncompatibleError
from scoring.bundle.manifest import BASELINE_FILE, BaselineRecord, read_manifest
from tests.helpers.bundles.small_bundle import small_bundle


@pytest.fixture(scope="module")
def record(champion_bundle: Path) -> BaselineRecord:
    return msgspec.json.decode((champion_bundle / BASELINE_FILE).read_bytes(), type=BaselineRecord)


def test_a_champion_carries_what_is_normal_for_all_that_is_watched(champion_bundle: Path) -> None:
    reference = load_reference(champion_bundle)
    names = read_manifest(champion_bundle).names
    assert reference.bins.names == (*names, "score", "alert", "dead-letter")
    assert reference.bins.digest == counted_bins(read_manifest(champion_bundle)).digest
    shares = reference.baseline.shares
    assert np.allclose(shares.sum(axis=-1), 1)
    assert (shares[:, ~reference.bins.bin_mask] == 0).all()
    assert (reference.baseline.dispersion >= 1).all()
    assert (reference.baseline.tolerance >= 0.005).all()
    assert reference.importance.sum() == pytest.approx(1)
    assert (reference.importance[-3:] == 0).all()


def test_cashback_is_known_to_follow_monto(champion_bundle: Path) -> None:
    reference = load_reference(champion_bundle)
    places = [reference.bins.names.index(name) for name in ("monto", "cashback")]
    assert reference.correlation[*places] == pytest.approx(0.81, abs=0.02)
    groups = correlated_groups(reference.bins.names, reference.correlation)
    assert groups["cashback"] == "monto"
    assert groups["ciudad"] == "ciudad"


def test_the_shares_of_an_hour_are_those_of_its_rows(champion_bundle: Path) -> None:
    reference = load_reference(champion_bundle)
    hour = reference.bins.names.index("hour")
    feature = reference.bins.features[hour]
    for of_day in (3, 12, 20):
        expected = reference.baseline.shares[24 + of_day, hour]  # of Tuesdays
        assert expected.argmax() == feature.bin_of_code[feature.encode(np.array([float(of_day)]))[0]]
        assert expected.max() > 0.9


def test_a_bundle_without_it_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    small_bundle(tmp_path)
    with pytest.raises(ModelIncompatibleError, match=r"baseline.json: no such file.*tamiz train"):
        load_reference(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layout": "0" * 16}, "its bins are not those"),
        ({"rows": (1.0,)}, "does not have values for all"),
        ({"shares": b"\0" * 400}, "reshape"),
        ({"shares": b"\0" * 401}, "buffer size"),
    ],
)
def test_one_that_does_not_fit_is_refused(
    champion_bundle: Path, record: BaselineRecord, changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    for path in champion_bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / BASELINE_FILE).write_bytes(msgspec.json.encode(msgspec.structs.replace(record, **changes)))
    with pytest.raises(ModelIncompatibleError, match=words) as refused:
        load_reference(tmp_path)
    assert "\n" not in str(refused.value)
