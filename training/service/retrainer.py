"""The retrainer: answers retraining requests one after the other, each exactly once, and publishes every step.

Several retrainers may run: the one that has claimed a request in the registry answers it
(`training.registry.request_claims`).

    request ─▶ training-started ─▶ registered ─▶ promoted | retained | awaiting-approval
                     └─▶ training-failed ─▶ wait ─▶ training-started …     at most `retrain_attempts` times

The state of each request follows from the topic `model-events` and from the registry's log, which takes precedence. A
restarted retrainer reads both and continues. The caller passes `publish` and `training`; this module has no Kafka.
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
from training.service.training_process import RETRAINER_ACTOR, TrainingFunction, run_in_child_process

log = logging.getLogger("tamiz.retrainer")

FINAL_CHANGES = frozenset({"promoted", "retained", "awaiting-approval"})
MAX_RETRY_DELAY_S = 3600


class RequestProgress:
    """Finished requests and failed attempts, by correlation id: a fold over `model-events`."""

    def __init__(self, events: Iterable[ModelEvent] = ()) -> None:
        self.finished: set[str] = set()
        self.failures: Counter[str] = Counter()
        for event in events:
            self.update(event)

    def update(self, event: ModelEvent) -> None:
        """Add one event."""
        if event.correlation_id is None:
            return
        if event.change in FINAL_CHANGES:
            self.finished.add(event.correlation_id)
        elif event.change == "training-failed":
            self.failures[event.correlation_id] += 1


class Retrainer:
    """Answers retraining requests. Blocking; `stop` ends a wait or a running training."""

    def __init__(
        self,
        settings: Settings,
        publish: Callable[[ModelEvent], None],
        progress: RequestProgress,
        *,
        stop: threading.Event,
        training: TrainingFunction,
        history: Path | None = None,
        past: Callable[[], Iterable[ModelEvent]] | None = None,
    ) -> None:
        """publish: sends to `model-events`. history: a file to train on instead of the topics.

        past: reads `model-events` from the beginning, to refresh `progress` after waiting for a claim; None when
        `progress` has all events.
        """
        self._settings = settings
        self._publish = publish
        self._progress = progress
        self._stop = stop
        self._history = history
        self._training = training
        self._read_past = past

    def answer(self, request: RetrainRequest) -> bool:
        """Train for a request unless it is finished. Returns True when it is finished, False when stopped before.

        A failed training is published, retried with exponential backoff, and given up after `retrain_attempts`.
        Exceptions of `publish` propagate: the event may be lost, so the request must be answered again.
        """
        correlation_id = request.correlation_id
        if request.model != self._settings.model_name:
            log.info(
                "request %s is for the model %r; this retrainer trains %r",
                correlation_id,
                request.model,
                self._settings.model_name,
            )
            return True
        if correlation_id in self._progress.finished:
            log.info("request %s is finished already", correlation_id)
            return True
        claim: RequestClaim | None = None
        try:
            while not self._stop.is_set() and not self._is_finished(correlation_id):
                failures = self._progress.failures[correlation_id]
                if failures and self._stop.wait(self._retry_delay_s(failures)):
                    return False
                if claim is not None and claim.is_lost:
                    claim = None
                if claim is None and (claim := self._acquire_claim(request)) is not None:
                    continue  # the previous holder may have finished the request
                if claim is not None:
                    self._attempt(request, claim)
            if correlation_id not in self._progress.finished and self._is_finished(correlation_id):
                attempts = self._progress.failures[correlation_id]
                log.error("request %s is given up after %d attempts", correlation_id, attempts)
            return self._is_finished(correlation_id)
        finally:
            if claim is not None:
                claim.release(answered=self._is_finished(correlation_id))

    def _is_finished(self, correlation_id: str) -> bool:
        failures = self._progress.failures[correlation_id]
        return correlation_id in self._progress.finished or failures >= self._settings.retrain_attempts

    def _acquire_claim(self, request: RetrainRequest) -> RequestClaim | None:
        """Claim the request; None when another retrainer has finished it, or the registry is unreachable."""
        try:
            claim = acquire(self._settings, request.correlation_id, self._stop)
        except ModelUnavailableError as error:
            self._publish_event(self._event(request, "training-failed", without_credentials(str(error))))
            return None
        if self._read_past is not None:
            self._progress = RequestProgress(self._read_past())
        if claim is None and not self._stop.is_set():
            log.info("request %s was answered by another retrainer", request.correlation_id)
            self._progress.finished.add(request.correlation_id)
        return claim

    def _retry_delay_s(self, failures: int) -> float:
        return min(MAX_RETRY_DELAY_S, float(self._settings.retrain_backoff_seconds * 2 ** (failures - 1)))

    def _attempt(self, request: RetrainRequest, claim: RequestClaim) -> None:
        try:
            if (event := self._unpublished_event(request.correlation_id)) is not None:
                self._publish_event(event)
                return
            self._publish_event(self._event(request, "training-started", request.reason))
            events = run_in_child_process(self._training, self._settings, request, self._history, stop=claim.stop)
        except (TrainingError, ModelUnavailableError) as error:
            if not claim.stop.is_set():
                self._publish_event(self._event(request, "training-failed", without_credentials(str(error))))
            return
        for event in events:
            self._publish_event(event)

    def _unpublished_event(self, correlation_id: str) -> ModelEvent | None:
        """The event of a transition that is in the registry but, after a crash, not yet on `model-events`."""
        transitions = version_transitions.history(self._settings)
        found = [t for t in transitions if t.correlation_id == correlation_id]
        return found[0].event(self._settings.model_name) if found else None

    def _event(
        self, request: RetrainRequest, change: Literal["training-started", "training-failed"], reason: str
    ) -> ModelEvent:
        return ModelEvent(
            model=request.model,
            model_version=None,
            change=change,
            reason=reason,
            by=RETRAINER_ACTOR,
            happened_at_ms=int(time.time() * 1000),
            correlation_id=request.correlation_id,
        )

    def _publish_event(self, event: ModelEvent) -> None:
        self._publish(event)
        self._progress.update(event)
        log.info("request %s: %s version %s: %s", event.correlation_id, event.change, event.model_version, event.reason)
