"""The aliases `champion` and `challenger` in the registry, brought to what the history of promotions says."""

import logging
import time
from typing import Any

from schemas.configuration.settings import Settings
from schemas.promotion_log import LogState, VersionTransition, disagreement
from training.registry import transition_log
from training.registry.bundle_verification import TransitionRefusedError, verified_digest
from training.registry.mlflow_registry import CHALLENGER, CHAMPION, TAG
from training.registry.model_versions import MlflowException, aliased

log = logging.getLogger("tamiz.models")
ALIAS_DELAY_S = 1.0  # that a writer may take between the log and the alias


def reconcile(client: Any, settings: Settings) -> None:
    """Bring aliases and history together, where a writer died between the two, or somebody set an alias by hand.

    The history counts. Only where `unrecorded_champion` is `serve`, a champion that it does not know is written down,
    and only when nobody has moved since it was looked at.
    """
    name = settings.model_name
    now = transition_log.read(client, name)
    if (why := disagreement(now, alias := aliased(client, name, CHAMPION))) is None:
        return
    if settings.unrecorded_champion == "serve" and alias is not None:
        time.sleep(ALIAS_DELAY_S)  # somebody may be between the two
        then, now = now.head, transition_log.read(client, name)
        if then != now.head or alias != aliased(client, name, CHAMPION):
            return  # somebody is, and sets the alias
        before = now.promotion.previous if now.promotion else None
        if alias != before:
            log.warning("%s; it is written down as promoted", why)
            _write_down(client, settings, alias, now)
            return
    if now.last:
        log.warning("%s; the alias is set as the history says", why)
        set_aliases(client, name)


def _write_down(client: Any, settings: Settings, alias: int, now: LogState) -> None:
    tag = client.get_model_version(settings.model_name, str(alias)).tags.get(TAG + "bundle_sha256")
    try:
        move = VersionTransition(
            change="promoted",
            version=alias,
            previous=now.champion,
            reason="its alias was set in the registry, and `unrecorded_champion` is `serve`",
            evidence=None,
            by="the registry",
            at=transition_log.entry_time(),
            bundle_sha256=verified_digest(settings, alias, now.digests.get(alias), tag),
        )
        transition_log.append(client, settings.model_name, move=move, compared=True, after=now.last)
    except (TransitionRefusedError, transition_log.LogMovedError) as error:
        log.warning("version %d is not written down as promoted: %s", alias, error)


def set_aliases(client: Any, name: str) -> LogState:
    """Make the aliases say what the log says, and return what it comes to.

    Whoever sets an alias reads the log again afterwards: so the last to set one has set what the log ends with.
    """
    now = transition_log.read(client, name)
    while True:
        aliases = [(CHAMPION, now.champion), (CHALLENGER, now.challenger)]
        differing = [(alias, wanted) for alias, wanted in aliases if aliased(client, name, alias) != wanted]
        for alias, wanted in differing:
            _set_alias(client, name, alias, wanted)
        then, now = now, transition_log.read(client, name)
        if not differing or (then.champion, then.challenger) == (now.champion, now.challenger):
            return now


def _set_alias(client: Any, name: str, alias: str, version: int | None) -> None:
    try:
        if version is None:
            transition_log.when_unlocked(lambda: client.delete_registered_model_alias(name, alias))
        else:
            transition_log.when_unlocked(lambda: client.set_registered_model_alias(name, alias, str(version)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        log.warning(
            "the alias %s of %s stays as it is: version %s is not in the registry any more", alias, name, version
        )
