"""The demo's attack: stolen cards are tested, an alert names them, a person blocks them, and the attack ends."""

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
from kafka import KafkaProducer, TopicPartition
from rich.text import Text

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import TamizError
from schemas.json_codec import decode
from schemas.records import Decision, DriftAlert
from schemas.rules import ListEntry
from schemas.time_units import DAY_MS, HOUR_MS
from stream_app.kafka.kafka_clients import RecordConsumer, client_config
from stream_app.rules.list_records import cards_of_alert, write_list_entries
from tamiz.demo.demo_drift import DemoStep, Pairs, alert_step
from tamiz.demo.event_follower import follow_events
from tamiz.simulation.drift_injection import CARD_TESTING_MS, InjectedDrift
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic, simulate
from tamiz.terminal import Terminal

ATTACK_DAYS = 4  # a quiet one, that of the attack, and two for its incident to close
ROWS_PER_DAY = 1_500
SHARE = 0.8  # of the traffic of two hours
LIST, REASON = "stolen", "the demo's attack"
RESEND_DELAY_S = 0.1
TIMEOUT_S = 120

Send = Callable[[Pairs], object]


def attack_story(
    settings: Settings, start_ms: int, since: float, console: Terminal, send: Send, check: Callable[[], None]
) -> Iterator[DemoStep]:
    """Send days of traffic with a burst that tests stolen cards, block these, and wait until the incident closes.

    start_ms: first day. since: start of the demo, monotonic seconds. send: produces transactions. check: called often;
    raises if a service has failed. Raises TamizError if a step does not follow in time.
    """

    def step(name: str, detail: str) -> DemoStep:
        console.print(Text.assemble((name, "bold"), f" {detail}"))
        return DemoStep(step=name, after_s=round(time.monotonic() - since, 1), detail=detail)

    def alerts(*changes: str) -> DriftAlert:
        topics = {settings.drift_alerts_topic: DriftAlert}
        with contextlib.closing(follow_events(settings, topics, TIMEOUT_S, check)) as events:
            found: Iterator[DriftAlert] = (e for e in events if e.kind == "attack" and e.change in changes)
            return next(found)

    attack_ms = start_ms + DAY_MS + 14 * HOUR_MS
    before, after = attack_traffic(start_ms, attack_ms)
    send(before)
    yield step("cards tested", f"within two hours, {SHARE:.0%} of the transactions are of five stolen cards")
    with console.status("waiting for the alert"):
        alert = alerts("opened", "grew")
    yield alert_step(alert, since, console)
    cards = cards_of_alert(settings, alert.incident_id)
    key = load_dataset(settings.dataset).key
    assert key is not None
    now_ms = int(time.time() * 1000)
    entries = [
        ListEntry(list=LIST, field=key, value=card, effect="block", reason=REASON, by="tamiz demo", at_ms=now_ms)
        for card in cards
    ]
    write_list_entries(settings, load_dataset(settings.dataset), entries)
    listed = time.monotonic()
    yield step("cards blocked", f"tamiz lists add {LIST} --from-alert {alert.incident_id} --effect block")
    decision, took_s = declined_by_list(settings, [p for p in before if (p[0] or b"").decode() == cards[0]][-1], listed)
    matched = decision.matches[0]
    yield step("declined by list", f"the first transaction sent {took_s:.1f} s after the entry: {matched.name}")
    send(after)
    with console.status("waiting for the incident to close"):
        closed = alerts("closed")
    yield alert_step(closed, since, console)


def attack_traffic(start_ms: int, attack_ms: int) -> tuple[Pairs, Pairs]:
    """Transactions until some hours after the start of the attack, and the quiet ones after these."""
    drift = InjectedDrift(kind="card-testing", at_ms=attack_ms, strength=SHARE)
    traffic = Traffic(
        rows=ATTACK_DAYS * ROWS_PER_DAY, seed=5, signal=True, start_ms=start_ms, days=ATTACK_DAYS, drift=(drift,)
    )
    pairs: Pairs = list(keyed_payloads(traffic))
    split = int(np.searchsorted(simulate(traffic).event_time_ms, attack_ms + 2 * CARD_TESTING_MS))
    return pairs[:split], pairs[split:]


def declined_by_list(
    settings: Settings, payload: tuple[bytes | None, bytes | None], since: float
) -> tuple[Decision, float]:
    """Send a transaction again and again until a list decides it. Returns its decision, and when it was sent.

    since: monotonic seconds. Raises TamizError after `TIMEOUT_S`.
    """
    key, value = payload
    consumer = RecordConsumer(**client_config(settings.bootstrap), enable_auto_commit=False, fetch_max_wait_ms=20)
    producer = KafkaProducer(**client_config(settings.bootstrap), acks="all")
    try:
        topic = settings.decisions_topic
        consumer.assign([TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())])
        consumer.seek_to_end()
        for partition in consumer.assignment():
            consumer.position(partition)
        while (sent := time.monotonic()) - since < TIMEOUT_S:
            producer.send(settings.transactions_topic, key=key, value=value).get(TIMEOUT_S)
            while time.monotonic() - sent < RESEND_DELAY_S:
                for records in consumer.poll(timeout_ms=20).values():
                    for record in records:
                        decision = decode(record.value, Decision)
                        if record.key == key and decision.decided_by == "list":
                            return decision, sent - since
        raise TamizError(f"no list decided within {TIMEOUT_S} s; see worker.log in the demo's folder")
    finally:
        producer.close()
        consumer.close()
