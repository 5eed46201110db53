"""Who decides, and how that came about: every move of a model version, in a log where nothing overwrites it.

The log (`schemas.promotion_log`) is the truth; the aliases `champion` and `challenger` follow from it. Two people or
programs that move at once get two numbers of the log; whose move rested on a champion that is champion no more is
refused with a reason. A writer that dies between the log and the aliases leaves the aliases behind: whoever moves next
sets them right, and says so.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from schemas.actor import os_actor
from schemas.errors import ModelUnavailable
from schemas.promotion_log import Change, Move, Standing, disagreement
from schemas.settings import Settings
from training import move_log, registry
from training.registry import CHALLENGER, CHAMPION, TAG

log = logging.getLogger("tamiz.models")


class MoveRefusedError(ModelUnavailable):
    """The move does not hold: somebody else moved a moment earlier. Nothing has changed by it."""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version as it stands now."""

    version: int
    standing: str  # "champion", "challenger", "rejected" or "registered"
    registered_at_ms: int
    verdict: str | None  # of the skill gate
    forced: str | None  # the reason why it may decide without having shown skill
    last: Move | None
    tags: dict[str, str]


def promote(
    settings: Settings,
    version: int,
    reason: str,
    *,
    evidence: str | None = None,
    by: str | None = None,
    loop_id: str | None = None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> Move:
    """Make a version champion, whatever it has shown: the callers judge.

    compared_with: the champion that the judgement rests on; the move holds only while that one is champion.
    Raises MoveRefusedError when it is not any more, ModelUnavailable when there is no such version, or the registry
    cannot be reached.
    """
    return _enter(settings, "promoted", version, reason, evidence, by, loop_id, compared_with)


def challenge(
    settings: Settings,
    version: int,
    change: Literal["retained", "awaiting-approval"],
    reason: str,
    *,
    evidence: str | None = None,
    by: str | None = None,
    loop_id: str | None = None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> Move:
    """Make a version challenger, with the reason why it is no more than that.

    Raises as `promote` does.
    """
    return _enter(settings, change, version, reason, evidence, by, loop_id, compared_with)


def reject(settings: Settings, version: int, reason: str, *, by: str | None = None) -> Move:
    """Mark a version as refused by a person; it is challenger no more.

    Raises ModelUnavailable when it is champion, when there is no such version, or the registry cannot be reached.
    """
    if champion(settings) == version:
        raise ModelUnavailable(
            f"{settings.model} version {version} is champion and cannot be rejected; `tamiz models rollback` goes "
            "back to the one before"
        )
    return _enter(settings, "rejected", version, reason, None, by, None)


def rollback(settings: Settings, reason: str, *, by: str | None = None) -> Move:
    """Make the champion before this one champion again.

    Raises ModelUnavailable when the history knows none, or the registry cannot be reached.
    """
    now = standing(settings)
    line = champions(now.moves)
    if now.champion is None or not line[:-1]:
        raise ModelUnavailable(
            f"{settings.model} has no champion before {'this one' if now.champion else 'any'}: "
            "there is nothing to roll back to"
        )
    why = f"version {now.champion} was champion"
    return _enter(settings, "rolled-back", line[-2], reason, why, by, None, now.champion)


def champions(moves: Iterable[Move]) -> list[int]:
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


def standing(settings: Settings) -> Standing:
    """What the history comes to now; empty when the model was never registered."""
    with registry.opened(settings) as client:
        return move_log.read(client, settings.model)


def history(settings: Settings) -> list[Move]:
    """Every move of the model's versions that holds, oldest first; empty when it was never registered."""
    return list(standing(settings).moves)


def champion(settings: Settings) -> int | None:
    """The version that decides, or None: the history's; the alias's where `unrecorded_champion` is `serve`."""
    if settings.unrecorded_champion == "refuse":
        return standing(settings).champion
    return registry.champion(settings) or standing(settings).champion


def alias_disagreement(settings: Settings) -> str | None:
    """In one line, how the alias `champion` differs from the history; None when it does not."""
    with registry.opened(settings) as client:
        alias = registry.aliased(client, settings.model, CHAMPION)
        return disagreement(move_log.read(client, settings.model), alias)


def versions(settings: Settings) -> list[Version]:
    """Every registered version, newest first."""
    with registry.opened(settings) as client:
        now = move_log.read(client, settings.model)
        found = registry.all_versions(client, settings.model)
    names = {now.challenger: "challenger", now.champion: "champion"}
    last = {move.version: move for move in now.moves}
    return [
        Version(
            version=number,
            standing=names.get(number) or _word(last.get(number)),
            registered_at_ms=created,
            verdict=tags.get(TAG + "verdict"),
            forced=tags.get(TAG + "forced"),
            last=last.get(number),
            tags={name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)},
        )
        for number, created, tags in sorted(found, key=lambda v: -v[0])
    ]


def _word(last: Move | None) -> str:
    return "rejected" if last is not None and last.change == "rejected" else "registered"


def _enter(
    settings: Settings,
    change: Change,
    version: int,
    reason: str,
    evidence: str | None,
    by: str | None,
    loop_id: str | None,
    compared_with: int | msgspec.UnsetType | None = msgspec.UNSET,
) -> Move:
    compared = compared_with is not msgspec.UNSET
    with registry.opened(settings) as client:
        of = client.get_model_version(settings.model, str(version))
        _reconcile(client, settings)
        move = Move(
            change=change,
            version=version,
            previous=None if isinstance(compared_with, msgspec.UnsetType) else compared_with,
            reason=reason,
            evidence=evidence,
            by=by or os_actor(),
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            loop_id=loop_id,
            bundle_sha256=of.tags.get(TAG + "bundle_sha256"),
        )
        number = move_log.append(client, settings.model, move=move, compared=compared)
        after = _set_aliases(client, settings.model)
        if (why := after.refused.get(number)) is not None:
            raise MoveRefusedError(
                f"{settings.model} version {version} is not {change}: {why}; `tamiz models history` shows it"
            )
        return after.held[number]


def _reconcile(client: Any, settings: Settings) -> None:
    """Bring aliases and history together, where a writer died between the two, or somebody set an alias by hand.

    The history counts. Only where `unrecorded_champion` is `serve`, a champion that it does not know is written down.
    """
    name = settings.model
    now = move_log.read(client, name)
    if (why := disagreement(now, alias := registry.aliased(client, name, CHAMPION))) is None:
        return
    before = now.promotion.previous if now.promotion else None
    if alias is not None and settings.unrecorded_champion == "serve" and alias != before:
        log.warning("%s; it is written down as promoted", why)
        of = client.get_model_version(name, str(alias))
        move = Move(
            change="promoted",
            version=alias,
            previous=None,
            reason="its alias was set in the registry, and `unrecorded_champion` is `serve`",
            evidence=None,
            by="the registry",
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            bundle_sha256=of.tags.get(TAG + "bundle_sha256"),
        )
        move_log.append(client, name, move=move)
    elif now.last:
        log.warning("%s; the alias is set as the history says", why)
        _set_aliases(client, name)


def _set_aliases(client: Any, name: str) -> Standing:
    """Make the aliases say what the log says, and return what it comes to.

    Whoever sets an alias reads the log again afterwards: so the last to set one has set what the log ends with.
    """
    now = move_log.read(client, name)
    while True:
        aliases = [(CHAMPION, now.champion), (CHALLENGER, now.challenger)]
        differing = [(alias, wanted) for alias, wanted in aliases if registry.aliased(client, name, alias) != wanted]
        for alias, wanted in differing:
            _set_alias(client, name, alias, wanted)
        then, now = now, move_log.read(client, name)
        if not differing or (then.champion, then.challenger) == (now.champion, now.challenger):
            return now


def _set_alias(client: Any, name: str, alias: str, version: int | None) -> None:
    try:
        if version is None:
            move_log.when_unlocked(lambda: client.delete_registered_model_alias(name, alias))
        else:
            move_log.when_unlocked(lambda: client.set_registered_model_alias(name, alias, str(version)))
    except registry.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        log.warning(
            "the alias %s of %s stays as it is: version %s is not in the registry any more", alias, name, version
        )
