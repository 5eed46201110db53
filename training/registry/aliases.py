"""Keeps the aliases `champion` and `challenger` in the registry consistent with the transition log."""

import logging
import time
from typing import Any

from schemas.configuration.settings import Settings
from schemas.promotion_log import CHAMPION, LogState, VersionTransition, alias_mismatch
from training.registry import transition_log
from training.registry.bundle_verification import TransitionRefusedError, verified_digest
from training.registry.mlflow_registry import CHALLENGER, TAG
from training.registry.model_versions import MlflowException, version_of_alias

log = logging.getLogger("tamiz.models")
ALIAS_DELAY_S = 1.0  # a writer sets the alias within this time after its log entry


def reconcile(client: Any, settings: Settings) -> None:
    """Reconcile aliases and log after a writer crashed between the two or a person set an alias by hand.

    The log takes precedence. Only when `unrecorded_champion` is `serve`, a champion alias that the log does not know is
    recorded as promoted, and only if neither log nor alias changes meanwhile.
    """
    name = settings.model_name
    now = transition_log.read(client, name)
    if (why := alias_mismatch(now, alias := version_of_alias(client, name, CHAMPION))) is None:
        return
    if settings.unrecorded_champion == "serve" and alias is not None:
        time.sleep(ALIAS_DELAY_S)  # another writer may be between log entry and alias
        then, now = now.head, transition_log.read(client, name)
        if then != now.head or alias != version_of_alias(client, name, CHAMPION):
            return  # another writer was, and has set the alias
        before = now.promotion.previous if now.promotion else None
        if alias != before:
            log.warning("%s; it is recorded as promoted", why)
            _record_champion(client, settings, alias, now)
            return
    if now.last:
        log.warning("%s; the alias is set to the champion of the log", why)
        set_aliases(client, name)


def _record_champion(client: Any, settings: Settings, alias: int, now: LogState) -> None:
    tag = client.get_model_version(settings.model_name, str(alias)).tags.get(TAG + "bundle_sha256")
    try:
        transition = VersionTransition(
            change="promoted",
            version=alias,
            previous=now.champion,
            reason="its alias was set in the registry and `unrecorded_champion` is `serve`",
            evidence=None,
            by="the registry",
            at=transition_log.entry_time(),
            bundle_sha256=verified_digest(settings, alias, now.digests.get(alias), tag),
        )
        transition_log.append(client, settings.model_name, transition=transition, compared=True, after=now.last)
    except (TransitionRefusedError, transition_log.LogMovedError) as error:
        log.warning("version %d is not recorded as promoted: %s", alias, error)


def set_aliases(client: Any, name: str) -> LogState:
    """Set the aliases to the champion and challenger of the log; returns the log's state.

    Each writer reads the log again after it has set an alias, so the last alias set agrees with the end of the log.
    """
    now = transition_log.read(client, name)
    while True:
        aliases = [(CHAMPION, now.champion), (CHALLENGER, now.challenger)]
        differing = [(alias, wanted) for alias, wanted in aliases if version_of_alias(client, name, alias) != wanted]
        for alias, wanted in differing:
            _set_alias(client, name, alias, wanted)
        then, now = now, transition_log.read(client, name)
        if not differing or (then.champion, then.challenger) == (now.champion, now.challenger):
            return now


def _set_alias(client: Any, name: str, alias: str, version: int | None) -> None:
    try:
        if version is None:
            transition_log.retry_while_locked(lambda: client.delete_registered_model_alias(name, alias))
        else:
            transition_log.retry_while_locked(lambda: client.set_registered_model_alias(name, alias, str(version)))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        log.warning("the alias %s of %s stays unchanged: version %s is no longer in the registry", alias, name, version)
