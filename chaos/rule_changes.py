"""Changes of rules and lists during a run: valid ones, refused ones, and records that are no changes at all."""

import random
import threading
import time

import msgspec
from kafka import KafkaProducer

from schemas.configuration.settings import Settings
from schemas.log_chain import START
from schemas.records import Effect
from schemas.rules import (
    Exploration,
    ListEntry,
    Rule,
    RulesetRecord,
    RulesFile,
    list_entry_key,
    ruleset_key,
)
from scoring.rules.ruleset_log import ruleset_head

CARDS = range(1_000, 4_000)  # of the simulated traffic
LISTS = ("blocked", "watched", "trusted")
CONDITIONS = (
    "score >= {share:.3f}",
    "monto > {amount:.1f} and tipo_tc == 'Virtual'",
    "monto / linea_tc > {share:.3f} or ciudad is missing",
    "ID_USER in list('watched')",
    "hour < 6 and not (establecimiento == 'Super') and score > {share:.3f}",
)
BROKEN_CONDITIONS = ("monto >", "no_such_field > 1", "monto == 'x'", "score > 1 +")


class RuleTopics:
    """Writes to `rules` and `lists`, as the only writer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = KafkaProducer(bootstrap_servers=settings.bootstrap, delivery_timeout_ms=600_000)
        self.head = START

    def add_ruleset(self, content: RulesFile, *, by: str = "os:ana@chaos", **fields: object) -> int:
        """Write a record after the last one, an activation by default. Returns its number."""
        record = RulesetRecord(
            number=self.head.number + 1,
            change="activated",
            content=content,
            by=by,
            at_ms=int(time.time() * 1000),
            reason="chaos",
            after=self.head,
        )
        record = msgspec.structs.replace(record, **fields)
        value = msgspec.json.encode(record)
        head = ruleset_head(record, value)
        self.send(self._settings.rules_topic, ruleset_key(head.number, head.sha256).encode(), value)
        if record.after == self.head:
            self.head = head
        return record.number

    def add_entry(self, value: str, list_: str, effect: Effect | None, **fields: object) -> None:
        """Write an entry of a card."""
        entry = ListEntry(
            list=list_,
            field="ID_USER",
            value=value,
            effect=effect,
            reason="chaos",
            by="os:ana@chaos",
            at_ms=int(time.time() * 1000),
        )
        entry = msgspec.structs.replace(entry, **fields)
        self.send(self._settings.lists_topic, list_entry_key(entry).encode(), msgspec.json.encode(entry))

    def send(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Write a record, and wait until it is acknowledged."""
        self._producer.send(topic, key=key, value=value, partition=0).get(600)

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()


def rule(condition: str, effect: Effect = "review", *, id_: str = "r", live: bool = True) -> Rule:
    """A rule of a run."""
    return Rule(id=id_, version=1, when=condition, effect=effect, reason=condition, mode="live" if live else "shadow")


class RuleChanges(threading.Thread):
    """Changes rules and lists at random moments, until it is stopped."""

    def __init__(self, settings: Settings, *, seed: int, interval_s: float) -> None:
        """interval_s: mean time between two changes."""
        super().__init__(name="rule-changes", daemon=True)
        self.changes = 0
        self.failed: BaseException | None = None
        self._settings = settings
        self._rng = random.Random(seed)
        self._interval_s = interval_s
        self._over = threading.Event()

    def stop(self) -> None:
        """Stop, and wait for the last change."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Change until stopped."""
        topics = RuleTopics(self._settings)
        try:
            while not self._over.is_set():
                self._change(topics)
                self.changes += 1
                self._over.wait(self._rng.uniform(0, 2 * self._interval_s))
        except BaseException as error:
            self.failed = error
        finally:
            topics.close()

    def _change(self, topics: RuleTopics) -> None:
        draw = self._rng.random()
        if draw < 0.35:
            topics.add_ruleset(self._content())
        elif draw < 0.4:
            topics.add_ruleset(self._content(), change="proposed")
        elif draw < 0.45:
            broken = rule(self._rng.choice(BROKEN_CONDITIONS), id_="broken")
            content = self._content()
            topics.add_ruleset(msgspec.structs.replace(content, rules=(*content.rules, broken)))
        elif draw < 0.5:  # after a record that is not the last one
            topics.add_ruleset(self._content(), number=topics.head.number + 2, after=_wrong(topics))
        elif draw < 0.55:
            topic = self._rng.choice((self._settings.rules_topic, self._settings.lists_topic))
            value = self._rng.choice((b"", b"{", b"null", b'{"number": 1}', b"\xff" * 100, None))
            topics.send(topic, b"junk", value)
        else:
            for _ in range(self._rng.randint(1, 20)):
                self._entry(topics)

    def _content(self) -> RulesFile:
        draw = self._rng
        effects: tuple[Effect, ...] = ("block", "allow", "decline", "challenge", "review")
        conditions = [c.format(share=draw.random(), amount=draw.uniform(10, 900)) for c in CONDITIONS]
        rules = [
            rule(condition, draw.choice(effects), id_=f"r{i}", live=draw.random() < 0.7)
            for i, condition in enumerate(draw.sample(conditions, draw.randint(0, len(conditions))))
        ]
        explore = Exploration(share=0.3, below=500.0, seed=str(draw.random())) if draw.random() < 0.3 else None
        return RulesFile(rules=tuple(rules), explore=explore)

    def _entry(self, topics: RuleTopics) -> None:
        draw = self._rng
        name = draw.choice(LISTS)
        effects: dict[str, Effect | None] = {"blocked": "block", "watched": None, "trusted": "allow"}
        topics.add_entry(str(draw.choice(CARDS)), name, effects[name], removed=draw.random() < 0.3)


def _wrong(topics: RuleTopics) -> object:
    return msgspec.structs.replace(topics.head, number=topics.head.number + 1, sha256="f" * 64)
