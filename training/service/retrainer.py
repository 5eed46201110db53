"""The retrainer: answers requests for training one after the other, each once, and tells every step.

Several may run: a request is answered by the one that has claimed it in the registry
(`training.registry.request_claims`).

    request ─▶ training-started ─▶ registered ─▶ promoted | retained | awaiting-approval
                     └─▶ training-failed ─▶ wait ─▶ training-started …     at most `retrain_attempts` times

What a loop has come to stands on `model-events`, and in the registry's history, which is the truth: a retrainer that
starts again reads both, and goes on from there. Whoever runs it brings `publish` and `training`, and Kafka with them.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from schemas.configuration.settings import Settings
from schemas.errors import ModelUnavailableError, TrainingError
from schemas.records import ModelEvent, RetrainRequest
from schemas.security.sanitizer import without_credentials
from training.registry import version_transitions
from training.registry.request_claims import RequestClaim, acquire
from training.service.training_process import BY, Training, run_in_child_process

log = logging.getLogger("tamiz.retrainer")

SETTLED = frozenset({"promoted", "retained", "awaiting-approval"})
MAX_WAIT_S = 3600


class Progress:
    """What loops have come to: a fold over `model-events`."""

    def __init__(self, events: Iterable[ModelEvent] = ()) -> None:
        self.settled: set[str] = set()
        self.failures: Counter[str] = Counter()
        for event in events:
            self.observe(event)

    def observe(self, event: ModelEvent) -> None:
        """Take in one event."""
        if event.correlation_id is None:
            return
        if event.change in SETTLED:
            self.settled.add(event.correlation_id)
        elif event.change == "training-failed":
            self.failures[event.correlation_id] += 1


class Retrainer:
    """Answers requests. Blocking; `stop` ends the wait or the training it is in."""

    def __init__(
        self,
        settings: Settings,
        publish: Callable[[ModelEvent], None],
        progress: Progress,
        *,
        stop: threading.Event,
        training: Training,
        history: Path | None = None,
        past: Callable[[], Iterable[ModelEvent]] | None = None,
    ) -> None:
        """past: `model-events` from the beginning; None: what `progress` has seen is all there is."""
        self._settings = settings
        self._publish = publish
        self._progress = progress
        self._stop = stop
        self._history = history
        self._training = training
        self._read_past = past

    def answer(self, request: RetrainRequest) -> bool:
        """Train as asked, unless it was done; True when the request is dealt with, False when stopped before.

        A failed training is told, waited over and tried again, and given up after `retrain_attempts`.
        What `publish` raises leaves it: then nothing is known to be told, and the request is to be answered again.
        """
        loop = request.correlation_id
        if request.model != self._settings.model_name:
            log.info(
                "%s asks for the model %r, this retrainer trains %r", loop, request.model, self._settings.model_name
            )
            return True
        if loop in self._progress.settled:
            log.info("%s has been trained for already", loop)
            return True
        claim: RequestClaim | None = None
        try:
            while not self._stop.is_set() and not self._dealt_with(loop):
                if (failed := self._progress.failures[loop]) and self._stop.wait(self._pause_s(failed)):
                    return False
                if claim is not None and claim.lost:
                    claim = None
                if claim is None and (claim := self._claimed(request)) is not None:
                    continue  # whoever held it before may have dealt with it
                if claim is not None:
                    self._attempt(request, claim)
            if loop not in self._progress.settled and self._dealt_with(loop):
                log.error("%s is given up after %d attempts", loop, self._progress.failures[loop])
            return self._dealt_with(loop)
        finally:
            if claim is not None:
                claim.end(answered=self._dealt_with(loop))

    def _dealt_with(self, loop: str) -> bool:
        return loop in self._progress.settled or self._progress.failures[loop] >= self._settings.retrain_attempts

    def _claimed(self, request: RetrainRequest) -> RequestClaim | None:
        """The request, claimed; None when another retrainer has dealt with it, or the registry is away."""
        try:
            claim = acquire(self._settings, request.correlation_id, self._stop)
        except ModelUnavailableError as error:
            self._tell(self._event(request, "training-failed", without_credentials(str(error))))
            return None
        if self._read_past is not None:
            self._progress = Progress(self._read_past())
        if claim is None and not self._stop.is_set():
            log.info("%s was answered by another retrainer", request.correlation_id)
            self._progress.settled.add(request.correlation_id)
        return claim

    def _pause_s(self, failed: int) -> float:
        return min(MAX_WAIT_S, float(self._settings.retrain_backoff_seconds * 2 ** (failed - 1)))

    def _attempt(self, request: RetrainRequest, claim: RequestClaim) -> None:
        try:
            if (made := self._unannounced(request.correlation_id)) is not None:
                self._tell(made)
                return
            self._tell(self._event(request, "training-started", request.reason))
            events = run_in_child_process(self._training, self._settings, request, self._history, stop=claim.stop)
        except (TrainingError, ModelUnavailableError) as error:
            if not claim.stop.is_set():
                self._tell(self._event(request, "training-failed", without_credentials(str(error))))
            return
        for event in events:
            self._tell(event)

    def _unannounced(self, loop: str) -> ModelEvent | None:
        """What the registry knows of a loop that `model-events` does not: we died between the two."""
        made = [move for move in version_transitions.history(self._settings) if move.correlation_id == loop]
        return made[0].event(self._settings.model_name) if made else None

    def _event(
        self, request: RetrainRequest, change: Literal["training-started", "training-failed"], reason: str
    ) -> ModelEvent:
        return ModelEvent(
            model=request.model,
            model_version=None,
            change=change,
            reason=reason,
            by=BY,
            happened_at_ms=int(time.time() * 1000),
            correlation_id=request.correlation_id,
        )

    def _tell(self, event: ModelEvent) -> None:
        self._publish(event)
        self._progress.observe(event)
        log.info("%s: %s version %s: %s", event.correlation_id, event.change, event.model_version, event.reason)
