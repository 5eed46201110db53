"""Bundles that an attacker may have changed are refused in one line, or score correctly."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xgboost as xgb

from monitoring.counting.monitored_model import MonitoredModel
from schemas.errors import ModelIncompatibleError
from scoring.bundle import bundle_trial
from scoring.bundle.manifest import MANIFEST_FILE, MODEL_FILE
from tests.helpers.bundles.mutated_bundles import mutate, rehash
from tests.helpers.bundles.small_bundle import small_bundle

MUTATIONS = 64
CRASHES = 11  # a seed whose trees end the process that reads them
HARMLESS = 43  # a seed whose trees can be read and score as before


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    small_bundle(folder)
    return folder


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle, tmp_path / "copy")


@pytest.fixture
def nothing_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_trial, "_passed", set())


def refused(folder: Path, passed: Path | None = None) -> str:
    with pytest.raises(ModelIncompatibleError) as error:
        MonitoredModel.load(folder, 1, passed)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_of_mutated_trees_with_right_digests_none_ends_the_process_that_serves(bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.helpers.bundles.mutated_bundles",
            str(bundle),
            str(tmp_path),
            "0",
            str(MUTATIONS),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parent.parent.parent.parent,
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ends) == MUTATIONS, done.stderr
    ended = [seed for seed, (code, _), _ in ends if code < 0]
    passed = [seed for seed, (code, _), _ in ends if code == 0]
    assert CRASHES in ended
    assert HARMLESS in passed
    assert [seed for seed, (code, line), _ in ends if code > 0 and not line] == []
    assert [end for end in ends if end[1][0] == 0 and end[2][0] != 0] == []


@pytest.mark.usefixtures("nothing_has_passed")
def test_trees_that_crash_their_reader_are_refused_in_one_line(bundle: Path, tmp_path: Path) -> None:
    mutate(bundle, tmp_path / "crashes", CRASHES)
    mutate(bundle, tmp_path / "harmless", HARMLESS)
    assert "was terminated by SIG" in refused(tmp_path / "crashes")
    assert MonitoredModel.load(tmp_path / "harmless", 1).version == 1


@pytest.mark.usefixtures("nothing_has_passed")
def test_what_passed_is_remembered_by_its_content_and_by_nothing_else(
    bundle: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = tmp_path / "passed"
    assert MonitoredModel.load(bundle, 1, passed).version == 1
    monkeypatch.setattr(bundle_trial, "_passed", set())  # as in a process that has just started
    monkeypatch.setattr(bundle_trial, "CHILD", "import sys; sys.exit(3)")
    assert MonitoredModel.load(copy, 1, passed).version == 1
    booster = xgb.Booster(model_file=copy / MODEL_FILE)
    booster.set_attr(anything="else")  # type: ignore[no-untyped-call]
    booster.save_model(copy / MODEL_FILE)
    rehash(copy)
    assert "exit code 3" in refused(copy, passed)
    shutil.copytree(passed, copy, dirs_exist_ok=True)  # a bundle cannot vouch for itself
    (copy / "passed").mkdir()
    assert "exit code 3" in refused(copy, passed)


@pytest.mark.usefixtures("nothing_has_passed")
def test_a_child_that_hangs_is_ended(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_trial, "CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(bundle_trial, "LOAD_TIMEOUT_S", 0.5)
    assert "longer than 0.5 s" in refused(copy)


def _tree(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(learner: dict[str, Any]) -> None:
        tree = learner["gradient_booster"]["model"]["trees"][0]
        for name, value in changes.items():
            tree[name] = value(tree[name])

    return change


@pytest.mark.usefixtures("nothing_has_passed")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_tree(split_indices=lambda s: [1_000_000, *s[1:]]), id="a feature far beyond"),
        pytest.param(_tree(left_children=lambda c: [*c[:1], 0, *c[2:]]), id="a circle"),
        pytest.param(_tree(left_children=lambda c: [10**8, *c[1:]]), id="a child far beyond"),
        pytest.param(lambda learner: learner["objective"].update(name="reg:squarederror"), id="another objective"),
    ],
)
def test_trees_that_refer_beyond_themselves_are_refused(copy: Path, change: Callable[[dict[str, Any]], None]) -> None:
    trees = msgspec.json.decode(xgb.Booster(model_file=copy / MODEL_FILE).save_raw("json"))
    change(trees["learner"])
    (copy / MODEL_FILE).write_bytes(msgspec.json.encode(trees))
    rehash(copy)
    assert refused(copy)


def _challenge(challenge: float) -> dict[str, Any]:
    return {"points": {"review": 0.5, "decline": 0.8, "challenge": challenge}}


def _points(review: float, decline: float) -> dict[str, Any]:
    return {"points": {"review": review, "decline": decline}}


def _first(name: str, **changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda manifest: {name: [{**manifest[name][0], **changes}, *manifest[name][1:]]}


CASES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "thresholds above one": (lambda m: _points(1.005, 1.01), "points: review 1.005"),
    "a decline above every never": (lambda m: _points(0.5, 7.0), "decline 7.0"),
    "thresholds out of order": (lambda m: _points(0.9, 0.5), "0 <= review <= decline"),
    "a challenge below every review": (lambda m: _challenge(0.4), "challenge is 0.4; it must lie between review, 0.5"),
    "a challenge above every decline": (lambda m: _challenge(0.9), "challenge is 0.9; it must lie between review, 0.5"),
    "a threshold below zero": (lambda m: _points(-1.0, 0.5), "0 <= review <= decline"),
    "a base rate of one": (lambda m: {"base_rate": 1.0}, "base_rate"),
    "no rows": (lambda m: {"rows": 0}, "base_rate and rows"),
    "times in the wrong order": (lambda m: {"trained_from_ms": 5, "trained_until_ms": 4}, "trained_from_ms"),
    "a time in the far future": (lambda m: {"trained_until_ms": 10**15}, "trained_until_ms"),
    "a profile of other features": (lambda m: {"profile": m["profile"][1:]}, "profile"),
    "edges out of order": (_first("profile", edges=[2.0, 1.0]), "edges"),
    "a negative count": (
        lambda m: _first("profile", counts=[-1, *m["profile"][0]["counts"][1:]])(m),
        "counts",
    ),
    "one feature twice": (lambda m: {"features": [m["features"][0]] * 2}, "features"),
    "a level twice": (
        lambda m: {"features": [m["features"][0], {**m["features"][1], "levels": ["a"] * 8}]},
        "levels",
    ),
    "a golden score of two": (_first("golden", score=2.0), "golden vector 0"),
    "a golden code that there is not": (_first("golden", features=[0.0, 1e9]), "golden vector 0"),
    "no golden vectors": (lambda m: {"golden": []}, "golden"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_manifest_that_training_never_writes_is_refused(copy: Path, case: str) -> None:
    change, told = CASES[case]
    manifest = msgspec.json.decode((copy / MANIFEST_FILE).read_bytes())
    (copy / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest | change(manifest)))
    assert told in refused(copy)
