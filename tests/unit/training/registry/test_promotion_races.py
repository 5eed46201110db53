"""Concurrent promotions by real processes on one registry: log and aliases stay consistent."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from mlflow import MlflowClient

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import Claim, LogState
from tests.helpers.bundles.registry_copy import copy_registry
from tests.helpers.bundles.small_bundle import small_bundle
from tests.helpers.services.promotion_processes import FORKSERVER, PromotionProcess, crash_before_alias
from training.registry import aliases, mlflow_registry, transition_log, version_transitions
from training.registry.promotion import PromotionDecision, apply_decision, promote_manually
from training.registry.transition_log import LogMovedError
from training.registry.version_transitions import TransitionRefusedError

ROUNDS = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    small_bundle(folder / "bundle")
    (folder / "evaluation").mkdir()
    return folder / "bundle"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Settings:
    settings = Settings(state_dir=tmp_path_factory.mktemp("registered"), model_name="small")
    for _ in range(3):
        mlflow_registry.register(
            settings, bundle, report=bundle.parent / "evaluation", metrics={}, params={}, tags={"gate_status": "skill"}
        )
    version_transitions.promote(settings, 1, "the first")
    return settings


@pytest.fixture
def settings(tmp_path: Path, registered: Settings) -> Settings:
    """Three versions with skill; the first is champion."""
    return copy_registry(registered, tmp_path / "state")


def alias(settings: Settings, version: int | None) -> None:
    with mlflow_registry.mlflow_client(settings) as client:
        if version is None:
            client.delete_registered_model_alias(settings.model_name, "champion")
        else:
            client.set_registered_model_alias(settings.model_name, "champion", str(version))


def test_promotions_at_once_leave_one_champion_and_a_history_that_ends_in_it(settings: Settings) -> None:
    racers = [PromotionProcess(settings, name) for name in ("anna", "bert")]
    try:
        assert [racer.answer() for racer in racers] == ["ready", "ready"]
        with ThreadPoolExecutor(2) as pool:
            for number in range(ROUNDS):
                # Every other round both rest on a comparison with the same champion: one of them must be refused.
                compared = None if number % 2 else version_transitions.promote(settings, 1, "a new round").version
                told = list(pool.map(lambda r, v, c=compared: r.promote(v, c), racers, (2, 3)))  # type: ignore[misc]
                made = version_transitions.history(settings)
                assert mlflow_registry.champion(settings) == version_transitions.champion(settings) == made[-1].version
                assert all(m.previous == before.version for before, m in itertools.pairwise(made))
                if number % 2:
                    assert told == ["moved", "moved"]
                else:
                    assert sorted(t == "moved" for t in told) == [False, True], told
                    assert any(f"the champion is now version {made[-1].version}" in t for t in told)
    finally:
        for racer in racers:
            racer.end()
    line = version_transitions.champion_line(version_transitions.history(settings))
    assert version_transitions.rollback(settings, "back").version == line[-2] == mlflow_registry.champion(settings)


def test_a_death_between_history_and_alias_is_set_right_by_the_next_move_and_reported(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    dying = FORKSERVER.Process(target=crash_before_alias, args=(settings.state_dir,))
    dying.start()
    dying.join()
    assert dying.exitcode == 9
    assert (mlflow_registry.champion(settings), version_transitions.champion(settings)) == (1, 2)
    assert "champion is version 1, its history of promotions ends with version 2" in str(
        version_transitions.registry_inconsistency(settings)
    )
    apply_decision(settings, 3, PromotionDecision(status="retained", summary="It is not better."))
    assert mlflow_registry.champion(settings) == version_transitions.champion(settings) == 2
    assert [m.version for m in version_transitions.history(settings)] == [1, 2, 3]
    assert "the alias is set to the champion of the log" in caplog.text


def test_a_judgement_against_a_champion_that_is_gone_is_not_carried_out(settings: Settings) -> None:
    judged = PromotionDecision(status="promoted", summary="It is better than the champion, version 1.")
    version_transitions.promote(settings, 2, "a moment earlier")
    with pytest.raises(TransitionRefusedError, match="the champion is now version 2; it was version 1"):
        apply_decision(settings, 3, judged, compared_with=1)
    assert mlflow_registry.champion(settings) == 2
    version_transitions.promote(settings, 3, "an answer", correlation_id="a-loop")
    with pytest.raises(TransitionRefusedError, match="a-loop is answered already, by version 3"):
        apply_decision(settings, 2, judged, correlation_id="a-loop")


def test_an_alias_set_by_hand_counts_for_nothing_until_a_person_promotes(settings: Settings) -> None:
    alias(settings, 3)
    assert version_transitions.champion(settings) == 1
    assert [v.version for v in version_transitions.versions(settings) if v.status == "champion"] == [1]
    promote_manually(settings, 1, "the alias was moved by hand")  # the champion, so that the alias says so again
    assert mlflow_registry.champion(settings) == 1
    with pytest.raises(ModelUnavailableError, match="champion already"):
        promote_manually(settings, 1, "again")
    alias(settings, None)
    assert "the registry has no champion" in str(version_transitions.registry_inconsistency(settings))
    promote_manually(settings, 3, "it is better")
    assert mlflow_registry.champion(settings) == version_transitions.champion(settings) == 3


def test_a_history_holds_what_anybody_writes_into_it(settings: Settings) -> None:
    with mlflow_registry.mlflow_client(settings) as client:
        client.create_model_version("small.tamiz-history", "tamiz:/history", tags={"tamiz.entry": "\x01 no JSON"})
        client.create_model_version("small.tamiz-history", "tamiz:/history")
        refused = transition_log.read(client, "small").refused
    version_transitions.promote(settings, 2, "\x01\U0001f600" * 4000, evidence="\\" * 9000, by="b" * 9000)
    assert len(refused) == 2
    assert [m.version for m in version_transitions.history(settings)] == [1, 2]


def test_of_an_approval_and_a_rejection_at_once_one_holds(settings: Settings) -> None:
    version_transitions.make_challenger(settings, 2, "awaiting-approval", "it is better")
    waits = version_transitions.log_state(settings).last
    version_transitions.reject(settings, 2, "never", answers=waits)
    for answer in (
        lambda: promote_manually(settings, 2, "we want it", answers=waits),
        lambda: version_transitions.reject(settings, 2, "never", answers=waits),
    ):
        with pytest.raises(TransitionRefusedError, match="version 2 was rejected by os:"):
            answer()
    assert (mlflow_registry.champion(settings), version_transitions.champion(settings)) == (1, 1)


def test_entries_appended_at_once_are_a_chain_in_which_each_holds_once(settings: Settings) -> None:
    def append(number: int) -> int:
        with mlflow_registry.mlflow_client(settings) as client:
            return transition_log.append(
                client, "small", claim=Claim(correlation_id=f"loop-{number}", holder="a", after=None)
            )

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(append, range(8)))
    now = version_transitions.log_state(settings)
    assert {f"loop-{n}": number for n, number in enumerate(numbers)} == now.claims
    assert (now.damage, len(set(numbers))) == (None, 8)
    with (
        mlflow_registry.mlflow_client(settings) as client,
        pytest.raises(LogMovedError, match="other writers have appended"),
    ):
        transition_log.append(
            client, "small", claim=Claim(correlation_id="late", holder="a", after=None), after=now.last - 1
        )
    assert "late" not in version_transitions.log_state(settings).claims


def test_an_alias_is_written_down_only_when_nobody_has_moved_since_it_was_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lenient = msgspec.structs.replace(settings, unrecorded_champion="serve")
    monkeypatch.setattr(aliases, "ALIAS_DELAY_S", 0.0)
    written_down = aliases._record_champion

    def overtaken(client: MlflowClient, given: Settings, alias: int, now: LogState) -> None:
        transition_log.append(client, "small", claim=Claim(correlation_id="meanwhile", holder="a", after=None))
        written_down(client, given, alias, now)

    monkeypatch.setattr(aliases, "_record_champion", overtaken)
    alias(settings, 3)
    version_transitions.make_challenger(lenient, 2, "retained", "no better")
    assert [m.change for m in version_transitions.history(settings)] == ["promoted", "retained"]
    monkeypatch.setattr(aliases, "_record_champion", written_down)
    alias(settings, 3)
    version_transitions.make_challenger(lenient, 2, "retained", "no better")
    assert [(m.change, m.version) for m in version_transitions.history(settings)][2:] == [
        ("promoted", 3),
        ("retained", 2),
    ]
