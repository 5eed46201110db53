"""Claims on retraining requests: of several retrainers that read a request, exactly one answers it.

A claim is an entry of the registry's log (`training.registry.transition_log`), so of two concurrent claims exactly one
is valid. Its holder sends a heartbeat every `HEARTBEAT_INTERVAL_S`. Another retrainer takes over a claim that was
released or had no heartbeat for `HEARTBEAT_TIMEOUT_S`, by an entry that names the claim it replaces. Each retrainer
measures the timeout by its own clock; clocks are not compared.
"""

import logging
import threading
import time
from uuid import uuid4

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import Claim
from schemas.security.actor import os_actor
from training.registry import mlflow_registry, transition_log

log = logging.getLogger("tamiz.retrainer")
HEARTBEAT_INTERVAL_S = 10.0
HEARTBEAT_TIMEOUT_S = 60.0
POLL_INTERVAL_S = 0.2


class RequestClaim:
    """The right to answer a request. A thread sends its heartbeat until `release`."""

    def __init__(self, settings: Settings, correlation_id: str, number: int, stop: threading.Event) -> None:
        """number: of the claim's log entry. stop: set when the service ends."""
        self._settings = settings
        self._correlation_id = correlation_id
        self._number = number
        self._service_stop = stop
        self._ended = threading.Event()
        self.stop = threading.Event()  # set when the service ends or the claim is lost: the training must stop
        self._thread = threading.Thread(target=self._send_heartbeats, daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether another retrainer has taken over the claim."""
        return self.stop.is_set() and not self._service_stop.is_set()

    def release(self, *, answered: bool) -> None:
        """Release the claim. answered: the request is finished, so no other retrainer answers it."""
        self._ended.set()
        self._thread.join()
        if not self.is_lost:
            try:
                with mlflow_registry.mlflow_client(self._settings) as client:
                    key = "answered" if answered else "released"
                    transition_log.set_entry_tag(client, self._settings.model_name, self._number, key, "yes")
            except ModelUnavailableError as error:
                log.warning(
                    "the claim on request %s cannot be released: %s; it expires in %d s",
                    self._correlation_id,
                    error,
                    HEARTBEAT_TIMEOUT_S,
                )

    def _send_heartbeats(self) -> None:
        beats, at = 0, time.monotonic()
        while not self._ended.wait(POLL_INTERVAL_S):
            if self._service_stop.is_set():
                self.stop.set()
            if time.monotonic() - at < HEARTBEAT_INTERVAL_S:
                continue
            beats, at = beats + 1, time.monotonic()
            try:
                with mlflow_registry.mlflow_client(self._settings) as client:
                    transition_log.set_entry_tag(client, self._settings.model_name, self._number, "beat", str(beats))
                    is_held = (
                        transition_log.read(client, self._settings.model_name).claims.get(self._correlation_id)
                        == self._number
                    )
            except ModelUnavailableError as error:
                log.warning("no heartbeat for the claim on request %s: %s", self._correlation_id, error)
                continue
            if not is_held:
                log.error("another retrainer has taken over request %s; this training stops", self._correlation_id)
                self.stop.set()
                return


def acquire(settings: Settings, correlation_id: str, stop: threading.Event) -> RequestClaim | None:
    """Claim a request. Waits while another retrainer holds it; returns None when it is answered or `stop` is set.

    Raises ModelUnavailableError when the registry cannot be reached.
    """
    seen, since = None, time.monotonic()
    while not stop.is_set():
        with mlflow_registry.mlflow_client(settings) as client:
            holder = transition_log.read(client, settings.model_name).claims.get(correlation_id)
            tags = transition_log.entry_tags(client, settings.model_name, holder) if holder is not None else {}
            if "answered" in tags:
                return None
            if (now := (holder, tags.get("beat"))) != seen:
                if holder is not None and seen is None and "released" not in tags:
                    log.info("another retrainer has claimed request %s; waiting for its result", correlation_id)
                seen, since = now, time.monotonic()
            if holder is None or "released" in tags or time.monotonic() - since > HEARTBEAT_TIMEOUT_S:
                claim = Claim(correlation_id=correlation_id, holder=f"{os_actor()} {uuid4().hex[:8]}", after=holder)
                number = transition_log.append(client, settings.model_name, claim=claim)
                if transition_log.read(client, settings.model_name).claims.get(correlation_id) == number:
                    return RequestClaim(settings, correlation_id, number, stop)
                continue
        stop.wait(min(HEARTBEAT_INTERVAL_S, HEARTBEAT_TIMEOUT_S) / 5)
    return None
