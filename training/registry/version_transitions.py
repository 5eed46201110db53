"""Transitions of model versions: promote, make challenger, reject and roll back, each an entry of an append-only log.

The log (`schemas.promotion_log`) takes precedence; the aliases `champion` and `challenger` follow from it. Two
concurrent transitions get two numbers in the log; one that is based on a champion that has changed is refused with a
reason. A writer that crashes between log and aliases leaves old aliases behind; the next transition corrects them and
logs a warning.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import CHAMPION, PROMOTING_CHANGES, Change, LogState, VersionTransition, inconsistency
from schemas.security.actor import os_actor
from training.registry import aliases, mlflow_registry, transition_log
from training.registry.bundle_verification import (
    TransitionRefusedError as TransitionRefusedError,  # re-exported for callers
)
from training.registry.bundle_verification import verified_digest
from training.registry.mlflow_registry import TAG
from training.registry.model_versions import all_versions, version_of_alias


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version and its current status."""

    version: int
    status: str  # "champion", "challenger", "rejected" or "registered"
    registered_at_ms: int
    gate_status: str | None  # `GateResult.status`
    forced: str | None  # a person's reason to promote it although the skill gate failed
    last: VersionTransition | None  # its last transition
    last_number: int  # number of that transition in the log; 0 when there is none
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
    """Make a version champion. This function does not evaluate it; `training.registry.promotion` does.

    compared_with: the champion of the comparison; the transition is valid only while it is champion. answers: number
    of the version's last transition that the caller has seen (0: none); valid only while it is the last. accepts:
    fingerprint of the log's damage that a person has seen and accepts.
    Raises TransitionRefusedError when the transition is not valid, or the version's bundle is not the registered one;
    ModelUnavailableError when there is no such version, or the registry cannot be reached.
    """
    return _append_transition(
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


def make_challenger(
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
    """Make a version challenger. reason: why it was not promoted.

    Raises as `promote` does.
    """
    return _append_transition(settings, change, version, reason, evidence, by, correlation_id, compared_with)


def reject(
    settings: Settings, version: int, reason: str, *, by: str | None = None, answers: int | None = None
) -> VersionTransition:
    """Reject a version on a person's request; it is no longer challenger. answers: as for `promote`.

    Raises TransitionRefusedError when the transition is not valid; ModelUnavailableError when the version is champion,
    there is no such version, or the registry cannot be reached.
    """
    if champion(settings) == version:
        raise ModelUnavailableError(
            f"{settings.model_name} version {version} is champion and cannot be rejected; `tamiz models rollback` "
            "restores the previous champion"
        )
    return _append_transition(settings, "rejected", version, reason, None, by, None, answers=answers)


def rollback(settings: Settings, reason: str, *, by: str | None = None) -> VersionTransition:
    """Make the previous champion champion again, on a person's request. It also accepts damage of the log.

    Raises TransitionRefusedError when its bundle is not the registered one; ModelUnavailableError when there is no
    previous champion, or the registry cannot be reached.
    """
    now = log_state(settings)
    line = champion_line(now.transitions)
    if now.champion is None or not line[:-1]:
        raise ModelUnavailableError(
            f"{settings.model_name} has no {'previous champion' if now.champion else 'champion'}: "
            "there is nothing to roll back to"
        )
    why = f"version {now.champion} was champion"
    return _append_transition(
        settings, "rolled-back", line[-2], reason, why, by, None, now.champion, accepts=now.fingerprint
    )


def champion_line(transitions: Iterable[VersionTransition]) -> list[int]:
    """The stack of champions for rollback, the current one last.

    >>> champion_line([])
    []
    """
    line: list[int] = []
    for transition in transitions:
        if transition.change == "promoted" and line[-1:] != [transition.version]:
            line.append(transition.version)
        elif transition.change == "rolled-back":
            # Pop down to that version, so that two rollbacks go back two champions instead of alternating.
            while line and line[-1] != transition.version:
                line.pop()
            line = line or [transition.version]
    return line


def log_state(settings: Settings) -> LogState:
    """The current state of the transition log; empty when the model was never registered."""
    with mlflow_registry.mlflow_client(settings) as client:
        return transition_log.read(client, settings.model_name)


def history(settings: Settings) -> list[VersionTransition]:
    """All valid transitions of the model's versions, oldest first; empty when it was never registered."""
    return list(log_state(settings).transitions)


def champion(settings: Settings) -> int | None:
    """The champion, or None: of the log, or of the alias when `unrecorded_champion` is `serve`."""
    if settings.unrecorded_champion == "refuse":
        return log_state(settings).champion
    return mlflow_registry.champion(settings) or log_state(settings).champion


def registry_inconsistency(settings: Settings) -> str | None:
    """In one line, how the log is damaged or the alias `champion` differs from it; None when all is well."""
    with mlflow_registry.mlflow_client(settings) as client:
        alias = version_of_alias(client, settings.model_name, CHAMPION)
        return inconsistency(transition_log.read(client, settings.model_name), alias)


def versions(settings: Settings) -> list[Version]:
    """All registered versions, newest first."""
    with mlflow_registry.mlflow_client(settings) as client:
        now = transition_log.read(client, settings.model_name)
        found = all_versions(client, settings.model_name)
    names = {now.challenger: "challenger", now.champion: "champion"}
    last = {transition.version: transition for transition in now.transitions}
    return [
        Version(
            version=number,
            status=names.get(number) or _status(last.get(number)),
            registered_at_ms=created,
            gate_status=tags.get(TAG + "gate_status"),
            forced=tags.get(TAG + "forced"),
            last=last.get(number),
            last_number=now.last_transition(number),
            tags={name.removeprefix(TAG): value for name, value in tags.items() if name.startswith(TAG)},
        )
        for number, created, tags in sorted(found, key=lambda v: -v[0])
    ]


def _status(last: VersionTransition | None) -> str:
    return "rejected" if last is not None and last.change == "rejected" else "registered"


def _append_transition(
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
                f"{now.damage}; `tamiz models promote VERSION --reason WHY` accepts the damage and continues"
            )
        if change == "rejected":  # allowed without a bundle, because nothing will serve it
            sha256 = now.digests.get(version)
        else:
            sha256 = verified_digest(settings, version, now.digests.get(version), of.tags.get(TAG + "bundle_sha256"))
        transition = VersionTransition(
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
            client, settings.model_name, transition=transition, compared=compared, answers=answers, accepts=accepts
        )
        after = aliases.set_aliases(client, settings.model_name)
        if (why := after.refused.get(number)) is not None:
            raise TransitionRefusedError(
                f"{settings.model_name} version {version} is not {change}: {why}; see `tamiz models history`"
            )
        return after.held[number]
