"""Bundles: a loaded model scores as the written one, and a damaged bundle is never served."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xgboost as xgb

from monitoring.counting.monitored_model import MonitoredModel
from schemas.errors import ModelIncompatibleError
from scoring.bundle.manifest import MANIFEST_FILE, MODEL_FILE, FeatureEncoding, Manifest, read_manifest, write_manifest
from scoring.model import MAX_FILE_BYTES, feature_types
from tests.helpers.bundles.small_bundle import ENCODING, MISSING, OTHER, history, small_booster, small_bundle
from training.model.fit import FitConfig


def test_a_bundle_is_two_files_of_plain_text_and_ubjson(tmp_path: Path) -> None:
    small_bundle(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST_FILE, MODEL_FILE]
    assert (tmp_path / MODEL_FILE).read_bytes()[:1] == b"{"


@pytest.mark.parametrize("city", [None, OTHER, MISSING, 10.0, 63.0, 1000.0], ids=str)
def test_scoring_raw_codes_splits_categories_as_a_typed_matrix_does(tmp_path: Path, city: float | None) -> None:
    model = small_bundle(tmp_path)
    matrix = history()[0][:500].copy()
    if city is not None:
        matrix[:, 1] = city
    booster = xgb.Booster(model_file=tmp_path / MODEL_FILE)
    typed = xgb.DMatrix(
        matrix, feature_names=["monto", "ciudad"], feature_types=feature_types(ENCODING), enable_categorical=True
    )
    assert model.score(matrix).tolist() == booster.predict(typed).astype(np.float64).tolist()


def test_the_small_model_does_split_on_sets_of_categories() -> None:
    assert any("ciudad:{" in tree and "," in tree for tree in small_booster().get_dump())


def test_contributions_sum_to_the_log_odds_of_the_score(tmp_path: Path) -> None:
    model = small_bundle(tmp_path)
    matrix = history()[0][:200]
    odds = np.log(model.score(matrix) / (1 - model.score(matrix)))
    assert model.contributions(matrix).shape == (200, 3)
    np.testing.assert_allclose(model.contributions(matrix).sum(axis=1), odds, atol=1e-4)


def test_a_batch_of_nothing_scores_nothing(tmp_path: Path) -> None:
    model = small_bundle(tmp_path)
    nothing = np.empty((0, 2), np.float32)
    assert model.score(nothing).shape == (0,)
    assert model.contributions(nothing).shape == (0, 3)


def test_a_row_scores_the_same_alone_and_in_a_batch(tmp_path: Path) -> None:
    model = small_bundle(tmp_path)
    matrix = history()[0][:64]
    assert model.score(matrix).tolist() == [model.score(matrix[i : i + 1])[0] for i in range(64)]


@pytest.mark.parametrize("nthread", [1, 2])
def test_the_same_rows_and_configuration_give_the_same_booster_bit_for_bit(nthread: int) -> None:
    config = FitConfig(nthread=nthread)
    assert small_booster(config).save_raw("ubj") == small_booster(config).save_raw("ubj")


def test_another_seed_gives_another_booster() -> None:
    assert small_booster(FitConfig(seed=1)).save_raw("ubj") != small_booster(FitConfig(seed=2)).save_raw("ubj")


def test_golden_vectors_reach_from_the_lowest_score_to_the_highest_and_beyond_the_known_levels(tmp_path: Path) -> None:
    model = small_bundle(tmp_path)
    golden = model.manifest.golden
    scores = model.score(history()[0])
    assert len(golden) == 34
    assert (golden[0].score, golden[31].score) == (scores.min(), scores.max())
    assert [g.features[1] for g in golden[-2:]] == [OTHER, MISSING]


def _truncate(folder: Path) -> None:
    path = folder / MODEL_FILE
    path.write_bytes(path.read_bytes()[:-1000])


def _flip_one_bit(folder: Path) -> None:
    path = folder / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _empty_model(folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(b"")


def _no_model(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()


def _no_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def _half_a_manifest(folder: Path) -> None:
    path = folder / MANIFEST_FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _enormous_model(folder: Path) -> None:
    with (folder / MODEL_FILE).open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no room on disk


def _change(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_manifest(folder, msgspec.structs.replace(read_manifest(folder), **changes))

    return damage


def _not_a_model(folder: Path) -> None:
    content = b'{"not": "trees"}'
    (folder / MODEL_FILE).write_bytes(content)
    _change(model_sha256=hashlib.sha256(content).hexdigest())(folder)


def _shift_a_golden_score(folder: Path) -> None:
    manifest = read_manifest(folder)
    first = msgspec.structs.replace(manifest.golden[0], score=manifest.golden[0].score + 2e-6)
    write_manifest(folder, msgspec.structs.replace(manifest, golden=(first, *manifest.golden[1:])))


def _short_golden_vector(folder: Path) -> None:
    manifest = read_manifest(folder)
    first = msgspec.structs.replace(manifest.golden[0], features=(1.0,))
    write_manifest(folder, msgspec.structs.replace(manifest, golden=(first, *manifest.golden[1:])))


THIRD = FeatureEncoding(name="third", kind="number")
RENAMED = (msgspec.structs.replace(ENCODING[0], name="amount"), ENCODING[1])
RETYPED = (ENCODING[0], FeatureEncoding(name="ciudad", kind="number"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(_truncate, "damaged", id="truncated trees"),
        pytest.param(_flip_one_bit, "damaged", id="one bit flipped"),
        pytest.param(_empty_model, "damaged", id="empty trees"),
        pytest.param(_no_model, "model.ubj", id="no trees"),
        pytest.param(_no_manifest, "manifest.json", id="no manifest"),
        pytest.param(_half_a_manifest, "manifest.json", id="half a manifest"),
        pytest.param(_enormous_model, "at most", id="more than 512 MB"),
        pytest.param(_not_a_model, "XGBoost cannot read it", id="not trees at all"),
        pytest.param(_change(features=(*ENCODING, THIRD)), "2 features", id="another number of features"),
        pytest.param(_change(features=RENAMED), "amount", id="another name"),
        pytest.param(_change(features=RETYPED), "ciudad:q", id="another kind"),
        pytest.param(_change(golden=()), "golden", id="no golden vectors"),
        pytest.param(_change(format=2), "format 2", id="a newer format"),
        pytest.param(_shift_a_golden_score, "golden vector 0", id="a golden score off by 2e-6"),
        pytest.param(_short_golden_vector, "golden vector", id="a golden vector too short"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_line(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    small_bundle(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelIncompatibleError, match=message) as refused:
        MonitoredModel.load(tmp_path, version=1)
    assert "\n" not in str(refused.value)


def test_trees_that_score_nan_are_refused(tmp_path: Path) -> None:
    small_bundle(tmp_path)
    path = tmp_path / MODEL_FILE
    trees = msgspec.json.decode(xgb.Booster(model_file=path).save_raw("json"))
    trees["learner"]["gradient_booster"]["model"]["trees"][0]["split_conditions"] = [
        float("nan") if left == -1 else condition
        for left, condition in zip(
            trees["learner"]["gradient_booster"]["model"]["trees"][0]["left_children"],
            trees["learner"]["gradient_booster"]["model"]["trees"][0]["split_conditions"],
            strict=True,
        )
    ]
    text = msgspec.json.encode(trees).replace(b"null", b"NaN")
    broken = xgb.Booster()
    broken.load_model(bytearray(text))
    broken.save_model(path)
    _change(model_sha256=hashlib.sha256(path.read_bytes()).hexdigest())(tmp_path)
    with pytest.raises(ModelIncompatibleError, match="nan"):
        MonitoredModel.load(tmp_path, version=1)


def test_the_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest: Manifest = small_bundle(tmp_path).manifest
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
