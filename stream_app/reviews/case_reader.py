"""Reads what a reviewer sees of a case: the transaction, the card's other transactions, the logged profile values."""

import logging
import math
import threading
import time
from collections.abc import Sequence

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.errors import BrokerError
from schemas.json_codec import decode
from schemas.records import Decision, Label
from schemas.security.sanitizer import MAX_NAME_LENGTH, printable, without_credentials
from stream_app.kafka.kafka_clients import DELIVERY_TIMEOUT_S, require_broker, service_producer
from stream_app.kafka.place_reader import PlaceReader
from stream_app.reviews.review_follower import ReviewFollower, decision_place
from stream_app.reviews.review_messages import CardTransaction
from stream_app.reviews.review_queue import MAX_TEXT_LENGTH, DecisionPlace, ReviewCase
from stream_app.reviews.transaction_view import TransactionView, read_transactions

log = logging.getLogger("tamiz.reviews")
MAX_HISTORY = 10  # other transactions of the card
READ_TIMEOUT_S = 5.0


class CaseReader:
    """Reads records of single cases, and writes their labels. Every call blocks; calls of several threads queue."""

    def __init__(self, settings: Settings, dataset: Dataset, follower: ReviewFollower) -> None:
        self._settings = settings
        self._dataset = dataset
        self._follower = follower
        self._lock = threading.Lock()
        self._transactions = PlaceReader(
            settings.bootstrap, settings.transactions_topic, keep_bytes=settings.max_payload_bytes
        )
        self._decisions = PlaceReader(settings.bootstrap, settings.decisions_topic)
        self._producer_lock = threading.Lock()
        self._producer: KafkaProducer | None = None

    def transaction(self, place: DecisionPlace) -> TransactionView | None:
        """The transaction of a decision; None if it is not in the topic any more. Raises BrokerError or KafkaError."""
        with self._lock:
            return self._views([place])[0]

    def history(self, case: ReviewCase) -> list[CardTransaction]:
        """The last decisions of the case's card, without the case. Raises BrokerError or KafkaError."""
        key = case.key
        if key is None:
            return []
        with self._follower.lock:
            places = self._follower.index.places(key, MAX_HISTORY + 1)
        with self._lock:
            records = self._decisions.read(places, READ_TIMEOUT_S)
            found = [
                (decision, decision_place(records[place]))
                for place in places
                if place in records and records[place].key == key and (decision := _decision(records[place].value))
            ]
            others = [pair for pair in found if pair[0].decision_id != case.decision.decision_id][:MAX_HISTORY]
            views = self._views([place for _, place in others])
        with self._follower.lock:
            verdicts = [self._follower.queue.verdict(decision.transaction_id) for decision, _ in others]
        return [
            CardTransaction(
                transaction_id=printable(decision.transaction_id, MAX_TEXT_LENGTH),
                event_time_ms=decision.event_time_ms,
                outcome=decision.outcome,
                score=decision.score,
                amount=None if view is None else view.amount,
                verdict=verdict,
            )
            for (decision, _), view, verdict in zip(others, views, verdicts, strict=True)
        ]

    def profile_values(self, case: ReviewCase) -> dict[str, float | None]:
        """Profile values as logged with the case's decision; empty without profiles or without a record of them.

        Raises BrokerError or KafkaError.
        """
        transaction = case.place.transaction(self._follower.topic_id)
        if not self._dataset.profiles or transaction is None:
            return {}
        from scoring.profiles.profile_plan import ProfilePlan
        from stream_app.decisions.logged_features import FeatureLogReader

        plan = ProfilePlan.of(self._dataset)
        with FeatureLogReader(self._settings, plan) as reader:
            logged = reader.read([transaction], time.monotonic() + READ_TIMEOUT_S)
        values = logged.values(*transaction, case.decision.transaction_id, case.decision.event_time_ms)
        if values is None:
            return {}
        return {
            printable(name, MAX_NAME_LENGTH): float(value) if math.isfinite(value) else None
            for name, value in zip(plan.names, values.tolist(), strict=True)
        }

    def write_label(self, case: ReviewCase, fraud: bool | None, by: str) -> Label:
        """Write a verdict to `labels` and wait until the broker has it. Raises BrokerError or KafkaError.

        It names the entities of the transaction, for profiles of labels, if the transaction can be read.
        """
        view = self.transaction(case.place)
        label = Label(
            transaction_id=case.decision.transaction_id,
            fraud=fraud,
            reported_at_ms=int(time.time() * 1000),
            by=by,
            event_time_ms=case.decision.event_time_ms,
            entities=view.entities if view is not None and view.entities else None,
        )
        with self._producer_lock:
            if self._producer is None:
                with require_broker(self._settings.bootstrap):
                    self._producer = service_producer(self._settings.bootstrap, acks="all")
            sent = self._producer.send(
                self._settings.labels_topic, msgspec.json.encode(label), key=label.transaction_id.encode()
            )
        sent.get(timeout=DELIVERY_TIMEOUT_S)
        return label

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._transactions.close()
            self._decisions.close()
        with self._producer_lock:
            if self._producer is not None:
                self._producer.close(timeout=1)

    def _views(self, places: Sequence[DecisionPlace]) -> list[TransactionView | None]:
        wanted = [place.transaction(self._follower.topic_id) for place in places]
        records = self._transactions.read([w for w in wanted if w is not None], READ_TIMEOUT_S)
        payloads = [records[w].value if w is not None and w in records else None for w in wanted]
        return read_transactions(self._dataset, payloads, self._settings.max_payload_bytes)


def unreadable(what: str, error: BrokerError | KafkaError) -> str:
    """One sentence for the reviewer: what could not be read, and why."""
    return f"{what} cannot be read: {without_credentials(str(error) or repr(error))}"


def _decision(value: bytes | None) -> Decision | None:
    try:
        return decode(value, Decision)
    except msgspec.MsgspecError:
        return None
