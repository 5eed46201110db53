"""Who decides, and how that came about: every move of a model version, kept where nothing overwrites it.

The aliases `champion` and `challenger` say what holds now; MLflow itself forgets where an alias was. Each move is
therefore a tag of its own on the registered model, `tamiz.move.TIME`, with who, when, why and on what evidence.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from schemas.actor import os_actor
from schemas.errors import ModelUnavailable
from schemas.events import ModelEvent
from schemas.settings import Settings
from training import registry
from training.registry import CHALLENGER, CHAMPION, TAG

MOVE = TAG + "move."
LONGEST = 1500  # characters of a reason or of evidence: MLflow's own tables hold 5,000 a tag

Change = Literal["promoted", "retained", "awaiting-approval", "rejected", "rolled-back"]


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One change of what a version is."""

    change: Change  # what happened to `version`; by "rolled-back" it is champion again
    version: int
    previous: int | None  # who was champion until then; None: nobody
    reason: str
    evidence: str | None  # what it rests on: the verdict of gate and comparison, in a sentence
    by: str  # as `schemas.actor` writes it
    at: str  # ISO 8601, UTC
    loop_id: str | None = None  # of the retraining that led here

    def event(self, model: str) -> ModelEvent:
        """The move as `model-events` tells it."""
        return ModelEvent(
            model=model,
            model_version=self.version,
            change=self.change,
            reason=self.reason,
            by=self.by,
            happened_at_ms=int(datetime.fromisoformat(self.at).timestamp() * 1000),
            loop_id=self.loop_id,
        )


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
) -> Move:
    """Make a version champion, whatever it has shown: the callers judge.

    Raises ModelUnavailable when there is no such version, or the registry cannot be reached.
    """
    return _crown(settings, "promoted", version, reason, evidence, by, loop_id)


def challenge(
    settings: Settings,
    version: int,
    change: Literal["retained", "awaiting-approval"],
    reason: str,
    *,
    evidence: str | None = None,
    by: str | None = None,
    loop_id: str | None = None,
) -> Move:
    """Make a version challenger, with the reason why it is no more than that.

    Raises ModelUnavailable when there is no such version, or the registry cannot be reached.
    """
    with registry.opened(settings) as client:
        move = _move(change, version, registry.aliased(client, settings.model, CHAMPION), reason, evidence, by, loop_id)
        client.set_registered_model_alias(settings.model, CHALLENGER, str(version))
        _remember(client, settings.model, move)
    return move


def reject(settings: Settings, version: int, reason: str, *, by: str | None = None) -> Move:
    """Mark a version as refused by a person; it is challenger no more.

    Raises ModelUnavailable when it is champion, when there is no such version, or the registry cannot be reached.
    """
    with registry.opened(settings) as client:
        champion = registry.aliased(client, settings.model, CHAMPION)
        if champion == version:
            raise ModelUnavailable(
                f"{settings.model} version {version} is champion and cannot be rejected; `tamiz models rollback` goes "
                "back to the one before"
            )
        move = _move("rejected", version, champion, reason, None, by, None)
        _remember(client, settings.model, move)
        if registry.aliased(client, settings.model, CHALLENGER) == version:
            client.delete_registered_model_alias(settings.model, CHALLENGER)
    return move


def rollback(settings: Settings, reason: str, *, by: str | None = None) -> Move:
    """Make the champion before this one champion again.

    Raises ModelUnavailable when the history knows none, or the registry cannot be reached.
    """
    line = champions(history(settings))
    now = registry.champion(settings)
    before = line[:-1] if line and line[-1] == now else line
    if now is None or not before:
        raise ModelUnavailable(
            f"{settings.model} has no champion before {'this one' if now else 'any'}: there is nothing to roll back to"
        )
    return _crown(settings, "rolled-back", before[-1], reason, f"version {now} was champion", by, None)


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


def history(settings: Settings) -> list[Move]:
    """Every move of the model's versions, oldest first; empty when it was never registered."""
    with registry.opened(settings) as client:
        return _moves(registry.registered_model_tags(client, settings.model))


def versions(settings: Settings) -> list[Version]:
    """Every registered version, newest first."""
    with registry.opened(settings) as client:
        moves = _moves(registry.registered_model_tags(client, settings.model))
        aliases = {registry.aliased(client, settings.model, alias): alias for alias in (CHALLENGER, CHAMPION)}
        found = registry.all_versions(client, settings.model)
    last = {move.version: move for move in moves}
    return [
        Version(
            version=number,
            standing=aliases.get(number) or _standing(last.get(number)),
            registered_at_ms=created,
            verdict=tags.get(TAG + "verdict"),
            forced=tags.get(TAG + "forced"),
            last=last.get(number),
            tags={name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)},
        )
        for number, created, tags in sorted(found, key=lambda v: -v[0])
    ]


def _standing(last: Move | None) -> str:
    return "rejected" if last is not None and last.change == "rejected" else "registered"


def _crown(
    settings: Settings,
    change: Change,
    version: int,
    reason: str,
    evidence: str | None,
    by: str | None,
    loop_id: str | None,
) -> Move:
    with registry.opened(settings) as client:
        move = _move(change, version, registry.aliased(client, settings.model, CHAMPION), reason, evidence, by, loop_id)
        client.set_registered_model_alias(settings.model, CHAMPION, str(version))
        _remember(client, settings.model, move)
        if registry.aliased(client, settings.model, CHALLENGER) == version:
            client.delete_registered_model_alias(settings.model, CHALLENGER)
    return move


def _move(
    change: Change,
    version: int,
    previous: int | None,
    reason: str,
    evidence: str | None,
    by: str | None,
    loop_id: str | None,
) -> Move:
    return Move(
        change=change,
        version=version,
        previous=previous,
        reason=reason[:LONGEST],
        evidence=evidence[:LONGEST] if evidence else None,
        by=by or os_actor(),
        at=datetime.now(UTC).isoformat(timespec="microseconds"),
        loop_id=loop_id,
    )


def _remember(client: Any, model: str, move: Move) -> None:
    client.set_model_version_tag(model, str(move.version), TAG + move.change, move.reason)
    # A tag's name may hold no "+"; in this form names sort as times do.
    name = f"{MOVE}{datetime.fromisoformat(move.at):%Y%m%dT%H%M%S.%fZ}"
    client.set_registered_model_tag(model, name, msgspec.json.encode(move).decode())


def _moves(tags: dict[str, str]) -> list[Move]:
    return [msgspec.json.decode(tags[name], type=Move) for name in sorted(tags) if name.startswith(MOVE)]
