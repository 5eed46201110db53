"""Send dead letters back once they are mended, never twice.

A dead letter goes back when its payload, as it is or as a person replaced it, can now be cleaned. What went back is
remembered in the compacted `redrives` topic; message and memory are written in one Kafka transaction, so that neither
is ever there without the other (for whoever reads committed records only). `redrive_plan` says which go back.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.configuration.settings import Settings
from schemas.dataset.declaration import Dataset
from schemas.json_codec import decode
from schemas.record_parts import omitted_headers
from schemas.records import Redrive, Rejection
from schemas.topics import MAX_RECORD_BYTES
from stream_app.decisions import dead_letters
from stream_app.kafka.topic_admin import is_compacted, topic_ids
from stream_app.kafka.topic_reader import ConsumedRecord, read_to_end
from stream_app.redrive.originals import Originals, opened
from stream_app.redrive.redrive_plan import (
    Consumed,
    Letter,
    RedrivePlan,
    consumed,
    may_go_back,
    plan,
    read_letter,
    redrive_key,
)
from stream_app.redrive.redrive_writer import send_back, sole_producer


class Result(NamedTuple):
    """What became of all of them."""

    sent_back: int
    went_before: int
    broken: dict[str, int]  # by code
    refused: dict[str, int]  # that the broker or its client would not take, by error
    originals_gone: int  # cut when they were written, and the original is no longer there
    headers_lost: int  # of those sent back: without headers that were cut, for the original is gone
    examples: dict[str, str]  # by code or error: the first one, for people
    unreadable: int  # in the topic, but no dead letter by its headers
    unusable_redrives: int  # in the topic of redrives, but none of ours
    not_found: list[str]  # transactions with a replacement, but without a dead letter to replace


class Redriving:
    """One run: the letters that it reads go back, or are counted."""

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        originals: Originals,
        producer: Any,
        replacements: Mapping[str, bytes],
    ) -> None:
        """producer: transactional, None sends nothing."""
        self._settings = settings
        topic = settings.dead_letters_topic
        # Once the broker has refused a record, our client cannot abort the transaction that it is in.
        self._needs_keys = is_compacted(settings.bootstrap, settings.transactions_topic)
        self._topic_id = topic_ids(settings.bootstrap, [topic]).get(topic, "")
        self._dataset = dataset
        self._originals = originals
        self._producer = producer
        self._replacements = replacements
        self._went_back, self.unusable_redrives = went_back(settings)
        self._examples: dict[str, str] = {}
        self._broken: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._seen: set[str] = set()
        self.sent_back = 0
        self._went_before = self._gone = self._headers_lost = self._unreadable = 0

    def take(self, records: Sequence[ConsumedRecord], room: int | None) -> None:
        """Send back what of some records can go. room: how many at most, None does not bound."""
        read = [read_letter(record, self._topic_id) for record in records]
        self._unreadable += read.count(None)
        letters = [r for r in read if r is not None and not r.about.code.startswith(dead_letters.OMITTED_PREFIX)]
        self._seen.update({letter.about.transaction_id for letter in letters} & self._replacements.keys())
        chosen = self._planned([whole for letter in letters if (whole := self._whole(letter)) is not None])
        self._went_before += chosen.went_before
        for letter, rejection in chosen.broken:
            self._break(letter, rejection)
        topic = self._settings.transactions_topic
        back = [letter for letter in chosen.back if letter.key is not None or not self._needs_keys]
        for letter in chosen.back:
            if letter.key is None and self._needs_keys:
                self._refuse(letter, "NoKey", f"it has no key, and {topic} is compacted")
        sending = back if room is None else back[:room]
        if self._producer is None:
            self.sent_back += len(sending)
            return
        for letter, error in send_back(self._producer, sending, self._settings):
            if error is None:
                self.sent_back += 1
                continue
            self._refuse(letter, type(error).__name__, str(error))

    def result(self, *, limited: bool) -> Result:
        """What became of all that was taken. limited: not everything was read."""
        return Result(
            sent_back=self.sent_back,
            went_before=self._went_before,
            broken=dict(self._broken),
            refused=dict(self._refused),
            originals_gone=self._gone,
            headers_lost=self._headers_lost,
            examples=self._examples,
            unreadable=self._unreadable,
            unusable_redrives=self.unusable_redrives,
            not_found=[] if limited else sorted(set(self._replacements) - self._seen),
        )

    def _planned(self, letters: list[Letter]) -> RedrivePlan:
        """The plan of some letters; one that our own code cannot bear is broken, and stops no other."""
        noted = set(self._went_back)
        try:
            return plan(
                letters,
                self._went_back,
                self._dataset,
                max_payload_bytes=self._settings.max_payload_bytes,
                replacements=self._replacements,
            )
        except Exception as error:
            self._went_back = noted
            if len(letters) == 1:
                rejection = Rejection(
                    row=0, code="internal-error", field=None, value=repr(error)[:100], expected="none"
                )
                return RedrivePlan([], [(letters[0], rejection)], 0)
            half = len(letters) // 2
            first, second = self._planned(letters[:half]), self._planned(letters[half:])
            return RedrivePlan(
                first.back + second.back, first.broken + second.broken, first.went_before + second.went_before
            )

    def _whole(self, letter: Letter) -> Letter | None:
        """A letter with what was cut from it; None, and counted, where that cannot be had."""
        cut = letter.cut
        replaced = letter.about.transaction_id in self._replacements
        if cut is None or not may_go_back(letter, self._went_back):
            return letter
        if cut.value_bytes > self._settings.max_payload_bytes and not replaced:
            seen, most = f"{cut.value_bytes} bytes", f"at most {self._settings.max_payload_bytes} bytes"
            self._break(letter, Rejection(row=0, code="too-large", field=None, value=seen, expected=most))
            return None
        original = self._originals.fetch(letter.about, cut)
        if original is not None:
            if not omitted_headers(original.headers):
                return letter._replace(key=original.key, value=original.value, headers=original.headers)
            self._headers_lost += 1  # the original has more than anybody reads; the letter has the first of them
            return letter._replace(key=original.key, value=original.value)
        if cut.key_sha256 is not None or (cut.value_sha256 is not None and not replaced):
            self._gone += 1
            self._examples.setdefault("original-gone", f"{letter.place}: {letter.about.origin} is no longer there")
            return None
        self._headers_lost += 1
        return letter

    def _refuse(self, letter: Letter, name: str, why: str) -> None:
        self._refused[name] += 1
        self._examples.setdefault(name, f"{letter.place}: {why}")
        self._went_back.discard(consumed(letter))

    def _break(self, letter: Letter, rejection: Rejection) -> None:
        self._broken[rejection.code] += 1
        field = rejection.field or "payload"
        example = f"{letter.place}: {field} is {rejection.value}, wanted {rejection.expected}"
        self._examples.setdefault(rejection.code, example)


def redrive(
    settings: Settings,
    dataset: Dataset,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    replacements: Mapping[str, bytes] | None = None,
) -> Result:
    """Send back what is mended among the dead letters that are there now.

    Each transaction goes to the partition it came from, under its key. One that cannot go stops no other.
    Raises BrokerError when nobody answers, a topic is missing, or another redrive has taken over meanwhile.
    """
    with (
        contextlib.nullcontext() if dry_run else sole_producer(settings) as producer,
        opened(settings) as originals,
    ):
        # Read after the producer has fenced every other one off: nobody can add to them from here on.
        run = Redriving(settings, dataset, originals, producer, replacements or {})
        for records in read_to_end(settings.bootstrap, settings.dead_letters_topic, keep_bytes=MAX_RECORD_BYTES):
            run.take(records, None if limit is None else limit - run.sent_back)
            if run.sent_back == limit:
                break
    return run.result(limited=run.sent_back == limit)


def went_back(settings: Settings) -> tuple[set[Consumed], int]:
    """What was sent back; and how many records of `redrives` are none of ours.

    Ours has the key that goes with it, and names a dead letter of our topic.
    """
    place = re.compile(re.escape(settings.dead_letters_topic) + r"-[0-9]{1,10}-[0-9]{1,19}(@[\w-]+)?")
    found: set[Consumed] = set()
    unusable = 0
    for records in read_to_end(settings.bootstrap, settings.redrives_topic):
        for record in records:
            try:
                marker = decode(record.value, Redrive)
            except msgspec.MsgspecError:
                unusable += record.value is not None  # null is how compaction forgets a key
                continue
            if record.key != redrive_key(marker) or place.fullmatch(marker.dead_letter) is None:
                unusable += 1
                continue
            found.add((marker.transaction_id, marker.consumed_from))
    return found, unusable
