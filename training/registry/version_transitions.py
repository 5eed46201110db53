"""Who decides, and how that came about: every move of a model version, in a log where nothing overwrites it.

The log (`schemas.promotion_log`) is the truth; the aliases `champion` and `challenger` follow from it. Two people or
programs that move at once get two numbers of the log; whose move rested on a champion that is champion no more is
refused with a reason. A writer that dies between the log and the aliases leaves the aliases behind: whoever moves next
sets them right, and says so.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import PROMOTING_CHANGES, Change, LogState, VersionTransition, objection
from schemas.security.actor import os_actor
from training.registry import aliases, mlflow_registry, transition_log
from training.registry.bundle_verification import (
    TransitionRefusedError as TransitionRefusedError,  # also for those who move
)
from training.registry.bundle_verification import verified_digest
from training.registry.mlflow_registry import CHAMPION, TAG
from training.registry.model_versions import aliased, all_versions


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version as it stands now."""

    version: int
    status: str  # "champion", "challenger", "rejected" or "registered"
    registered_at_ms: int
    gate_status: str | None  # `GateResult.status`
    forced: str | None  # a person's reason to promote it although the skill gate failed
    last: VersionTransition | None
    last_number: int  # of its last move in the history; 0: it has none
    tags: dict[str, str]


def promote(
    settings: Settings,
    version: int,
    reason: str,
    *,
    evidence: str | None = None,
    by: str | None = None,
    correlation_id: str | None = None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
    answers: int | None = None,
    accepts: str | None = None,
) -> VersionTransition:
    """Make a version champion, whatever it has shown: the callers judge.

    compared_with: the champion that the judgement rests on; the move holds only while that one is champion.
    answers: number of the version's last move that it rests on (0: none); it holds only while that is the last.
    accepts: `LogState.fingerprint` of the history's damages that a person has seen and accepts with this move.
    Raises TransitionRefusedError when it does not hold, or the version's bundle is not the one that was registered;
    ModelUnavailableError when there is no such version, or the registry cannot be reached.
    """
    return _enter(
        settings,
        "promoted",
        version,
        reason,
        evidence,
        by,
        correlation_id,
        compared_with,
        answers=answers,
        accepts=accepts,
    )


def challenge(
    settings: Settings,
    version: int,
    change: Literal["retained", "awaiting-approval"],
    reason: str,
    *,
    evidence: str | None = None,
    by: str | None = None,
    correlation_id: str | None = None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> VersionTransition:
    """Make a version challenger, with the reason why it is no more than that.

    Raises as `promote` does.
    """
    return _enter(settings, change, version, reason, evidence, by, correlation_id, compared_with)


def reject(
    settings: Settings, version: int, reason: str, *, by: str | None = None, answers: int | None = None
) -> VersionTransition:
    """Mark a version as refused by a person; it is challenger no more. answers: as for `promote`.

    Raises TransitionRefusedError when it does not hold; ModelUnavailableError when it is champion, when there is no
    such version, or the registry cannot be reached.
    """
    if champion(settings) == version:
        raise ModelUnavailableError(
            f"{settings.model_name} version {version} is champion and cannot be rejected; `tamiz models rollback` goes "
            "back to the one before"
        )
    return _enter(settings, "rejected", version, reason, None, by, None, answers=answers)


def rollback(settings: Settings, reason: str, *, by: str | None = None) -> VersionTransition:
    """Make the champion before this one champion again. A person does, who accepts damages of the history with it.

    Raises TransitionRefusedError when its bundle is not the one that was registered; ModelUnavailableError when the
    history knows none, or the registry cannot be reached.
    """
    now = version_status(settings)
    line = champions(now.moves)
    if now.champion is None or not line[:-1]:
        raise ModelUnavailableError(
            f"{settings.model_name} has no champion before {'this one' if now.champion else 'any'}: "
            "there is nothing to roll back to"
        )
    why = f"version {now.champion} was champion"
    return _enter(settings, "rolled-back", line[-2], reason, why, by, None, now.champion, accepts=now.fingerprint)


def champions(moves: Iterable[VersionTransition]) -> list[int]:
    """The line of champions that rolling back walks down, the present one last.

    >>> champions([])
    []
    """
    line: list[int] = []
    for move in moves:
        if move.change == "promoted" and line[-1:] != [move.version]:
            line.append(move.version)
        elif move.change == "rolled-back":
            # Down to where it lies: rolling back twice goes back two, it does not swing between the last two.
            while line and line[-1] != move.version:
                line.pop()
            line = line or [move.version]
    return line


def version_status(settings: Settings) -> LogState:
    """What the history comes to now; empty when the model was never registered."""
    with mlflow_registry.mlflow_client(settings) as client:
        return transition_log.read(client, settings.model_name)


def history(settings: Settings) -> list[VersionTransition]:
    """Every move of the model's versions that holds, oldest first; empty when it was never registered."""
    return list(version_status(settings).moves)


def champion(settings: Settings) -> int | None:
    """The version that decides, or None: the history's; the alias's where `unrecorded_champion` is `serve`."""
    if settings.unrecorded_champion == "refuse":
        return version_status(settings).champion
    return mlflow_registry.champion(settings) or version_status(settings).champion


def alias_disagreement(settings: Settings) -> str | None:
    """In one line, how the history was damaged, or the alias `champion` differs from it; None when neither is so."""
    with mlflow_registry.mlflow_client(settings) as client:
        alias = aliased(client, settings.model_name, CHAMPION)
        return objection(transition_log.read(client, settings.model_name), alias)


def versions(settings: Settings) -> list[Version]:
    """Every registered version, newest first."""
    with mlflow_registry.mlflow_client(settings) as client:
        now = transition_log.read(client, settings.model_name)
        found = all_versions(client, settings.model_name)
    names = {now.challenger: "challenger", now.champion: "champion"}
    last = {move.version: move for move in now.moves}
    return [
        Version(
            version=number,
            status=names.get(number) or _word(last.get(number)),
            registered_at_ms=created,
            gate_status=tags.get(TAG + "gate_status"),
            forced=tags.get(TAG + "forced"),
            last=last.get(number),
            last_number=now.last_move(number),
            tags={name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)},
        )
        for number, created, tags in sorted(found, key=lambda v: -v[0])
    ]


def _word(last: VersionTransition | None) -> str:
    return "rejected" if last is not None and last.change == "rejected" else "registered"


def _enter(
    settings: Settings,
    change: Change,
    version: int,
    reason: str,
    evidence: str | None,
    by: str | None,
    correlation_id: str | None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
    *,
    answers: int | None = None,
    accepts: str | None = None,
) -> VersionTransition:
    compared = compared_with is not msgspec.UNSET
    with mlflow_registry.mlflow_client(settings) as client:
        of = client.get_model_version(settings.model_name, str(version))
        aliases.reconcile(client, settings)
        now = transition_log.read(client, settings.model_name)
        if change in PROMOTING_CHANGES and now.damage is not None and now.fingerprint != accepts:
            raise TransitionRefusedError(
                f"{now.damage}; `tamiz models promote VERSION --reason WHY` goes on from what there is"
            )
        if change == "rejected":  # also where the bundle is gone: nothing will be served by it
            sha256 = now.digests.get(version)
        else:
            sha256 = verified_digest(settings, version, now.digests.get(version), of.tags.get(TAG + "bundle_sha256"))
        move = VersionTransition(
            change=change,
            version=version,
            previous=None if isinstance(compared_with, msgspec.UnsetType) else compared_with,
            reason=reason,
            evidence=evidence,
            by=by or os_actor(),
            at=transition_log.entry_time(),
            correlation_id=correlation_id,
            bundle_sha256=sha256,
        )
        number = transition_log.append(
            client, settings.model_name, move=move, compared=compared, answers=answers, accepts=accepts
        )
        after = aliases.set_aliases(client, settings.model_name)
        if (why := after.refused.get(number)) is not None:
            raise TransitionRefusedError(
                f"{settings.model_name} version {version} is not {change}: {why}; `tamiz models history` shows it"
            )
        return after.held[number]
