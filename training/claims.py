"""Claims on requests: of several retrainers that read the same request, one answers it.

A claim is an entry of the registry's log (`training.move_log`), so that exactly one of two at once holds. Its holder
marks it every `BEAT_S`. One that is released, or not marked for `SILENCE_S` as another sees it, is taken over: by an
entry that names the claim it replaces, so that again exactly one holds. No clocks are compared.
"""

import logging
import threading
import time
from uuid import uuid4

from schemas.actor import os_actor
from schemas.errors import ModelUnavailable
from schemas.promotion_log import Claim
from schemas.settings import Settings
from training import move_log, registry

log = logging.getLogger("tamiz.retrainer")
BEAT_S = 10.0
SILENCE_S = 60.0
POLL_S = 0.2


class RequestClaim:
    """The right to answer a request, kept by a thread of its own until `end`."""

    def __init__(self, settings: Settings, loop_id: str, number: int, stop: threading.Event) -> None:
        """number: of the claim's entry. stop: the service is ending."""
        self._settings = settings
        self._loop_id = loop_id
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
                with registry.opened(self._settings) as client:
                    key = "answered" if answered else "released"
                    move_log.mark(client, self._settings.model, self._number, key, "yes")
            except ModelUnavailable as error:
                log.warning("the claim on %s is not let go: %s; it is free in %d s", self._loop_id, error, SILENCE_S)

    def _keep(self) -> None:
        beats, at = 0, time.monotonic()
        while not self._ended.wait(POLL_S):
            if self._service_stop.is_set():
                self.stop.set()
            if time.monotonic() - at < BEAT_S:
                continue
            beats, at = beats + 1, time.monotonic()
            try:
                with registry.opened(self._settings) as client:
                    move_log.mark(client, self._settings.model, self._number, "beat", str(beats))
                    holds = move_log.read(client, self._settings.model).claims.get(self._loop_id) == self._number
            except ModelUnavailable as error:
                log.warning("the claim on %s cannot be kept: %s", self._loop_id, error)
                continue
            if not holds:
                log.error("another retrainer has taken over %s; this training is given up", self._loop_id)
                self.stop.set()
                return


def acquire(settings: Settings, loop_id: str, stop: threading.Event) -> RequestClaim | None:
    """Claim a request, waiting while another retrainer answers it; None once it is answered, or `stop` is set.

    Raises ModelUnavailable when the registry cannot be reached.
    """
    seen, since = None, time.monotonic()
    while not stop.is_set():
        with registry.opened(settings) as client:
            holder = move_log.read(client, settings.model).claims.get(loop_id)
            marks = move_log.marks(client, settings.model, holder) if holder is not None else {}
            if "answered" in marks:
                return None
            if (now := (holder, marks.get("beat"))) != seen:
                if holder is not None and seen is None and "released" not in marks:
                    log.info("another retrainer has claimed %s; waiting for what comes of it", loop_id)
                seen, since = now, time.monotonic()
            if holder is None or "released" in marks or time.monotonic() - since > SILENCE_S:
                claim = Claim(loop_id=loop_id, holder=f"{os_actor()} {uuid4().hex[:8]}", after=holder)
                number = move_log.append(client, settings.model, claim=claim)
                if move_log.read(client, settings.model).claims.get(loop_id) == number:
                    return RequestClaim(settings, loop_id, number, stop)
                continue
        stop.wait(min(BEAT_S, SILENCE_S) / 5)
    return None
