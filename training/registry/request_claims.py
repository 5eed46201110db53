"""Claims on requests: of several retrainers that read the same request, one answers it.

A claim is an entry of the registry's log (`training.registry.transition_log`), so that exactly one of two at once
holds. Its holder marks it every `HEARTBEAT_INTERVAL_S`. One that is released, or not marked for `HEARTBEAT_TIMEOUT_S`
as another sees it, is taken over: by an entry that names the claim it replaces, so that again exactly one holds. No
clocks are compared.
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
POLL_S = 0.2


class RequestClaim:
    """The right to answer a request, kept by a thread of its own until `end`."""

    def __init__(self, settings: Settings, correlation_id: str, number: int, stop: threading.Event) -> None:
        """number: of the claim's entry. stop: the service is ending."""
        self._settings = settings
        self._correlation_id = correlation_id
        self._number = number
        self._service_stop = stop
        self._ended = threading.Event()
        self.stop = threading.Event()  # set when the service ends or the claim is lost: give up what it was held for
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another retrainer has taken over."""
        return self.stop.is_set() and not self._service_stop.is_set()

    def end(self, *, answered: bool) -> None:
        """Let go. answered: nobody else need answer the request."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            try:
                with mlflow_registry.mlflow_client(self._settings) as client:
                    key = "answered" if answered else "released"
                    transition_log.mark(client, self._settings.model_name, self._number, key, "yes")
            except ModelUnavailableError as error:
                log.warning(
                    "the claim on %s is not let go: %s; it is free in %d s",
                    self._correlation_id,
                    error,
                    HEARTBEAT_TIMEOUT_S,
                )

    def _keep(self) -> None:
        beats, at = 0, time.monotonic()
        while not self._ended.wait(POLL_S):
            if self._service_stop.is_set():
                self.stop.set()
            if time.monotonic() - at < HEARTBEAT_INTERVAL_S:
                continue
            beats, at = beats + 1, time.monotonic()
            try:
                with mlflow_registry.mlflow_client(self._settings) as client:
                    transition_log.mark(client, self._settings.model_name, self._number, "beat", str(beats))
                    holds = (
                        transition_log.read(client, self._settings.model_name).claims.get(self._correlation_id)
                        == self._number
                    )
            except ModelUnavailableError as error:
                log.warning("the claim on %s cannot be kept: %s", self._correlation_id, error)
                continue
            if not holds:
                log.error("another retrainer has taken over %s; this training is given up", self._correlation_id)
                self.stop.set()
                return


def acquire(settings: Settings, correlation_id: str, stop: threading.Event) -> RequestClaim | None:
    """Claim a request, waiting while another retrainer answers it; None once it is answered, or `stop` is set.

    Raises ModelUnavailableError when the registry cannot be reached.
    """
    seen, since = None, time.monotonic()
    while not stop.is_set():
        with mlflow_registry.mlflow_client(settings) as client:
            holder = transition_log.read(client, settings.model_name).claims.get(correlation_id)
            marks = transition_log.marks(client, settings.model_name, holder) if holder is not None else {}
            if "answered" in marks:
                return None
            if (now := (holder, marks.get("beat"))) != seen:
                if holder is not None and seen is None and "released" not in marks:
                    log.info("another retrainer has claimed %s; waiting for what comes of it", correlation_id)
                seen, since = now, time.monotonic()
            if holder is None or "released" in marks or time.monotonic() - since > HEARTBEAT_TIMEOUT_S:
                claim = Claim(correlation_id=correlation_id, holder=f"{os_actor()} {uuid4().hex[:8]}", after=holder)
                number = transition_log.append(client, settings.model_name, claim=claim)
                if transition_log.read(client, settings.model_name).claims.get(correlation_id) == number:
                    return RequestClaim(settings, correlation_id, number, stop)
                continue
        stop.wait(min(HEARTBEAT_INTERVAL_S, HEARTBEAT_TIMEOUT_S) / 5)
    return None
