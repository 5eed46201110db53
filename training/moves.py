"""Who decides, and how that came about: every move of a model version, in a log where nothing overwrites it.

The log (`schemas.promotion_log`) is the truth; the aliases `champion` and `challenger` follow from it. Two people or
programs that move at once get two numbers of the log; whose move rested on a champion that is champion no more is
refused with a reason. A writer that dies between the log and the aliases leaves the aliases behind: whoever moves next
sets them right, and says so.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from schemas.actor import os_actor
from schemas.errors import ModelUnavailable
from schemas.promotion_log import CROWNING, Change, Move, Standing, objection
from schemas.settings import Settings
from training import aliases, move_log, registry
from training.judged_bundle import MoveRefusedError as MoveRefusedError  # also for those who move
from training.judged_bundle import verified_digest
from training.model_versions import aliased, all_versions
from training.registry import CHAMPION, TAG


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version as it stands now."""

    version: int
    standing: str  # "champion", "challenger", "rejected" or "registered"
    registered_at_ms: int
    verdict: str | None  # of the skill gate
    forced: str | None  # the reason why it may decide without having shown skill
    last: Move | None
    last_number: int  # of its last move in the history; 0: it has none
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
    answers: int | None = None,
    accepts: str | None = None,
) -> Move:
    """Make a version champion, whatever it has shown: the callers judge.

    compared_with: the champion that the judgement rests on; the move holds only while that one is champion.
    answers: number of the version's last move that it rests on (0: none); it holds only while that is the last.
    accepts: `Standing.fingerprint` of the history's damages that a person has seen and accepts with this move.
    Raises MoveRefusedError when it does not hold, or the version's bundle is not the one that was registered;
    ModelUnavailable when there is no such version, or the registry cannot be reached.
    """
    return _enter(
        settings, "promoted", version, reason, evidence, by, loop_id, compared_with, answers=answers, accepts=accepts
    )


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


def reject(settings: Settings, version: int, reason: str, *, by: str | None = None, answers: int | None = None) -> Move:
    """Mark a version as refused by a person; it is challenger no more. answers: as for `promote`.

    Raises MoveRefusedError when it does not hold; ModelUnavailable when it is champion, when there is no such version,
    or the registry cannot be reached.
    """
    if champion(settings) == version:
        raise ModelUnavailable(
            f"{settings.model} version {version} is champion and cannot be rejected; `tamiz models rollback` goes "
            "back to the one before"
        )
    return _enter(settings, "rejected", version, reason, None, by, None, answers=answers)


def rollback(settings: Settings, reason: str, *, by: str | None = None) -> Move:
    """Make the champion before this one champion again. A person does, who accepts damages of the history with it.

    Raises MoveRefusedError when its bundle is not the one that was registered; ModelUnavailable when the history knows
    none, or the registry cannot be reached.
    """
    now = standing(settings)
    line = champions(now.moves)
    if now.champion is None or not line[:-1]:
        raise ModelUnavailable(
            f"{settings.model} has no champion before {'this one' if now.champion else 'any'}: "
            "there is nothing to roll back to"
        )
    why = f"version {now.champion} was champion"
    return _enter(settings, "rolled-back", line[-2], reason, why, by, None, now.champion, accepts=now.fingerprint)


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
    """In one line, how the history was damaged, or the alias `champion` differs from it; None when neither is so."""
    with registry.opened(settings) as client:
        alias = aliased(client, settings.model, CHAMPION)
        return objection(move_log.read(client, settings.model), alias)


def versions(settings: Settings) -> list[Version]:
    """Every registered version, newest first."""
    with registry.opened(settings) as client:
        now = move_log.read(client, settings.model)
        found = all_versions(client, settings.model)
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
            last_number=now.last_move(number),
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
    *,
    answers: int | None = None,
    accepts: str | None = None,
) -> Move:
    compared = compared_with is not msgspec.UNSET
    with registry.opened(settings) as client:
        of = client.get_model_version(settings.model, str(version))
        aliases.reconcile(client, settings)
        now = move_log.read(client, settings.model)
        if change in CROWNING and now.damage is not None and now.fingerprint != accepts:
            raise MoveRefusedError(
                f"{now.damage}; `tamiz models promote VERSION --reason WHY` goes on from what there is"
            )
        if change == "rejected":  # also where the bundle is gone: nothing will be served by it
            sha256 = now.digests.get(version)
        else:
            sha256 = verified_digest(settings, version, now.digests.get(version), of.tags.get(TAG + "bundle_sha256"))
        move = Move(
            change=change,
            version=version,
            previous=None if isinstance(compared_with, msgspec.UnsetType) else compared_with,
            reason=reason,
            evidence=evidence,
            by=by or os_actor(),
            at=move_log.entry_time(),
            loop_id=loop_id,
            bundle_sha256=sha256,
        )
        number = move_log.append(client, settings.model, move=move, compared=compared, answers=answers, accepts=accepts)
        after = aliases.set_aliases(client, settings.model)
        if (why := after.refused.get(number)) is not None:
            raise MoveRefusedError(
                f"{settings.model} version {version} is not {change}: {why}; `tamiz models history` shows it"
            )
        return after.held[number]
