"""The dashboard in this process on a real broker, without a registry, and cases for the people who review them."""

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from kafka import KafkaProducer

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset, load_dataset
from schemas.errors import ModelUnavailableError
from schemas.records import Decision, FeatureRecord, Outcome, Reason, RuleMatch
from schemas.time_units import MINUTE_MS
from schemas.transaction_ids import TOPIC_ID_HEADER
from stream_app.dashboard.registry_poller import Registry
from stream_app.dashboard.server import Dashboard
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.kafka.kafka_clients import client_config
from stream_app.kafka.topic_admin import topic_ids
from stream_app.web.web_auth import authenticator
from tamiz.services.user_file import add_user
from tests.helpers.services.loop_thread import running_loop
from tests.helpers.services.worker_process import isolated_settings, wait_for
from tests.helpers.traffic.invalid_payloads import payload
from tests.helpers.traffic.profiled_dataset import write_profiled

USERS = {"ana": "review", "ben": "review", "leo": "read", "max": "approve"}
MATCH = RuleMatch(kind="rule", name="night-abroad", version=3, effect="review", mode="live", reason="at night, abroad")


@dataclass
class ReviewWorld:
    """A served page, the tokens of its users, and a producer."""

    url: str
    settings: Settings
    dataset: Dataset
    tokens: dict[str, str]
    producer: KafkaProducer
    topic_id: str
    now_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    def ask(self, path: str, user: str = "ana", body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of a response; with a body, the request is a POST of JSON from the page itself."""
        sent = {"Authorization": f"Bearer {self.tokens[user]}"}
        if body is not None:
            sent |= {"Content-Type": "application/json", "Origin": self.url}
        coded = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self.url + path, coded, sent | headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def decide(
        self,
        name: str,
        outcome: Outcome = "review",
        *,
        card: str = "card-1",
        amount: float = 10.0,
        score: float = 0.7,
        text: str = "amount far above the card's own",
        matches: tuple[RuleMatch, ...] = (),
        logged: bool = True,
        expired: bool = False,
    ) -> None:
        """Send a transaction with its decision and logged values. expired: the transaction is gone."""
        s, partition = self.settings, 0
        fields = {"transaction_id": name, "ID_USER": card, "monto": str(amount), "establecimiento": "Tienda <b>"}
        sent = self.producer.send(s.transactions_topic, payload(**fields), key=card.encode(), partition=partition)
        offset = 10**9 if expired else sent.get(timeout=30).offset
        reason = Reason(feature="monto", value=amount, contribution=1.5, text=text)
        decision = Decision(
            decision_id=f"d-{name}",
            transaction_id=name,
            score=score,
            outcome=outcome,
            model_outcome="approve" if matches else outcome,
            decided_by="rule" if matches else "model",
            ruleset=1 if matches else None,
            exploration_share=None,
            matches=matches,
            threshold=0.5,
            reasons=() if outcome == "approve" else (reason,),
            model=s.model_name,
            model_version=1,
            event_time_ms=self.now_ms - 5 * MINUTE_MS,
        )
        headers = [(OFFSET_HEADER, str(offset).encode()), (TOPIC_ID_HEADER, self.topic_id.encode())]
        self.producer.send(
            s.decisions_topic, msgspec.json.encode(decision), key=card.encode(), headers=headers, partition=partition
        )
        if logged:
            values = np.arange(len(self.dataset.profile_features), dtype="<f4")
            values[-1] = np.nan
            record = FeatureRecord(
                transaction_id=name,
                event_time_ms=decision.event_time_ms,
                input_offset=offset,
                profiles=self.dataset.profiles_digest,
                complete=True,
                values=values.tobytes(),
            )
            self.producer.send(s.feature_log_topic, msgspec.json.encode(record), key=card.encode(), partition=partition)
        self.producer.flush()

    def reviews(self, **parameters: Any) -> Any:
        """The answer of the list of cases."""
        status, page = self.ask(f"/v1/reviews?{urllib.parse.urlencode(parameters)}")
        assert status == 200, page
        return page

    def ids(self, **parameters: Any) -> list[str]:
        """Transaction ids of the listed cases."""
        return [case["transaction_id"] for case in self.reviews(**parameters)["cases"]]


@contextlib.contextmanager
def running_reviews(bootstrap: str, folder: Path) -> Iterator[ReviewWorld]:
    """Serve the page on its own topics; it ends with the context."""
    declaration = write_profiled(folder)
    users = folder / "web-users"
    tokens = {name: add_user(users, name, [role]) for name, role in USERS.items()}
    settings = isolated_settings(bootstrap, folder, web_users_file=users, dataset=str(declaration))

    def away(*_: Any) -> Any:
        raise ModelUnavailableError("there is no registry here")

    registry = Registry(reference=away, pending_approvals=lambda: [], report=away, approve=away, reject=away)

    async def start() -> tuple[Dashboard, int]:
        page = Dashboard(settings, registry, authenticator(settings))
        return page, await page.start("127.0.0.1", 0)

    with running_loop(60) as run:
        page, port = run(start())
        producer = KafkaProducer(**client_config(settings.bootstrap), acks="all")
        try:
            world = ReviewWorld(
                f"http://127.0.0.1:{port}",
                settings,
                load_dataset(str(declaration)),
                tokens,
                producer,
                topic_ids(settings.bootstrap, [settings.transactions_topic])[settings.transactions_topic],
            )
            wait_for(lambda: world.reviews()["error"] is None, 120, lambda: str(world.reviews()))
            yield world
        finally:
            producer.close()
            run(page.stop())
