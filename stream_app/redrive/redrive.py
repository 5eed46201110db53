"""Sends corrected dead letters back to `transactions`, never twice.

A dead letter is sent back if its payload, unchanged or replaced by the user, is now valid. The compacted topic
`redrives` records what was sent back. Both are written in one Kafka transaction, so that for `read_committed` readers
neither exists without the other. `redrive_plan` selects the dead letters.
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
from stream_app.redrive.originals import Originals, open_originals
from stream_app.redrive.redrive_plan import (
    Letter,
    RedriveId,
    RedrivePlan,
    plan,
    read_letter,
    redrive_id,
    redrive_key,
)
from stream_app.redrive.redrive_writer import fencing_producer, send_back


class RedriveResult(NamedTuple):
    """The result of a redrive: number of dead letters by what was done with them."""

    sent_back: int
    sent_before: int
    invalid: dict[str, int]  # by code
    refused: dict[str, int]  # by error of the broker or its client
    originals_missing: int  # truncated, and the original does not exist any more
    headers_missing: int  # sent back without truncated headers, because the original does not exist any more
    examples: dict[str, str]  # by code or error: the first one
    unreadable: int  # records on the topic that are no dead letters by their headers
    unusable_redrives: int  # records on `redrives` that Tamiz did not write
    not_found: list[str]  # transaction ids with a replacement but without a dead letter


class RedriveRun:
    """One run of `tamiz redrive`: sends letters back and counts the rest."""

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        originals: Originals,
        producer: Any,
        replacements: Mapping[str, bytes],
    ) -> None:
        """producer: transactional; None for a dry run. replacements: transaction id -> payload to send instead."""
        self._settings = settings
        topic = settings.dead_letters_topic
        # A record without a key must not be sent to a compacted topic: kafka-python cannot abort after such a refusal.
        self._needs_keys = is_compacted(settings.bootstrap, settings.transactions_topic)
        self._topic_id = topic_ids(settings.bootstrap, [topic]).get(topic, "")
        self._dataset = dataset
        self._originals = originals
        self._producer = producer
        self._replacements = replacements
        self._redriven, self.unusable_redrives = read_redrives(settings)
        self._examples: dict[str, str] = {}
        self._invalid: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._seen: set[str] = set()
        self.sent_back = 0
        self._sent_before = self._originals_missing = self._headers_missing = self._unreadable = 0

    def process(self, records: Sequence[ConsumedRecord], limit: int | None) -> None:
        """Send back the valid ones of some dead letters. limit: at most this many; None for no limit."""
        read = [read_letter(record, self._topic_id) for record in records]
        self._unreadable += read.count(None)
        letters = [r for r in read if r is not None and not r.about.code.startswith(dead_letters.NOTIFICATION_PREFIX)]
        self._seen.update({letter.about.transaction_id for letter in letters} & self._replacements.keys())
        chosen = self._plan([whole for letter in letters if (whole := self._restore(letter)) is not None])
        self._sent_before += chosen.sent_before
        for letter, rejection in chosen.invalid:
            self._count_invalid(letter, rejection)
        topic = self._settings.transactions_topic
        accepted = [letter for letter in chosen.valid if letter.key is not None or not self._needs_keys]
        for letter in chosen.valid:
            if letter.key is None and self._needs_keys:
                self._count_refused(letter, "NoKey", f"it has no key, but {topic} is compacted")
        sending = accepted if limit is None else accepted[:limit]
        if self._producer is None:
            self.sent_back += len(sending)
            return
        for letter, error in send_back(self._producer, sending, self._settings):
            if error is None:
                self.sent_back += 1
                continue
            self._count_refused(letter, type(error).__name__, str(error))

    def result(self, *, limited: bool) -> RedriveResult:
        """The counts so far. limited: the run stopped before the end of the topic."""
        return RedriveResult(
            sent_back=self.sent_back,
            sent_before=self._sent_before,
            invalid=dict(self._invalid),
            refused=dict(self._refused),
            originals_missing=self._originals_missing,
            headers_missing=self._headers_missing,
            examples=self._examples,
            unreadable=self._unreadable,
            unusable_redrives=self.unusable_redrives,
            not_found=[] if limited else sorted(set(self._replacements) - self._seen),
        )

    def _plan(self, letters: list[Letter]) -> RedrivePlan:
        """The plan for some letters. A letter that triggers a bug counts as invalid and does not stop the others."""
        redriven_before = set(self._redriven)
        try:
            return plan(
                letters,
                self._redriven,
                self._dataset,
                max_payload_bytes=self._settings.max_payload_bytes,
                replacements=self._replacements,
            )
        except Exception as error:
            self._redriven = redriven_before
            if len(letters) == 1:
                rejection = Rejection(
                    row=0, code="internal-error", field=None, value=repr(error)[:100], expected="none"
                )
                return RedrivePlan([], [(letters[0], rejection)], 0)
            half = len(letters) // 2
            first, second = self._plan(letters[:half]), self._plan(letters[half:])
            return RedrivePlan(
                first.valid + second.valid, first.invalid + second.invalid, first.sent_before + second.sent_before
            )

    def _restore(self, letter: Letter) -> Letter | None:
        """A letter with its truncated parts restored; None, and counted, if that is not possible."""
        truncation = letter.truncation
        replaced = letter.about.transaction_id in self._replacements
        if truncation is None or redrive_id(letter) in self._redriven:
            return letter
        if truncation.value_bytes > self._settings.max_payload_bytes and not replaced:
            size, expected = f"{truncation.value_bytes} bytes", f"at most {self._settings.max_payload_bytes} bytes"
            self._count_invalid(letter, Rejection(row=0, code="too-large", field=None, value=size, expected=expected))
            return None
        original = self._originals.fetch(letter.about, truncation)
        if original is not None:
            if not omitted_headers(original.headers):
                return letter._replace(key=original.key, value=original.value, headers=original.headers)
            self._headers_missing += 1  # the original exceeds the header limits; the letter has the first ones
            return letter._replace(key=original.key, value=original.value)
        if truncation.key_sha256 is not None or (truncation.value_sha256 is not None and not replaced):
            self._originals_missing += 1
            self._examples.setdefault(
                "original-missing", f"{letter.place}: {letter.about.origin} does not exist any more"
            )
            return None
        self._headers_missing += 1
        return letter

    def _count_refused(self, letter: Letter, name: str, why: str) -> None:
        self._refused[name] += 1
        self._examples.setdefault(name, f"{letter.place}: {why}")
        self._redriven.discard(redrive_id(letter))

    def _count_invalid(self, letter: Letter, rejection: Rejection) -> None:
        self._invalid[rejection.code] += 1
        field = rejection.field or "payload"
        example = f"{letter.place}: {field} is {rejection.value}, expected {rejection.expected}"
        self._examples.setdefault(rejection.code, example)


def redrive(
    settings: Settings,
    dataset: Dataset,
    *,
    dry_run: bool = False,
    limit: int | None = None,
    replacements: Mapping[str, bytes] | None = None,
) -> RedriveResult:
    """Send back the valid ones of the dead letters that exist now.

    Each transaction goes to its original partition, with its key. One that fails does not stop the others.
    replacements: transaction id -> payload to send instead.
    Raises BrokerError if the broker does not respond, a topic is missing, or another redrive has fenced this one.
    """
    with (
        contextlib.nullcontext() if dry_run else fencing_producer(settings) as producer,
        open_originals(settings) as originals,
    ):
        # `redrives` is read after other redrives are fenced, so that none can add to it any more.
        run = RedriveRun(settings, dataset, originals, producer, replacements or {})
        for records in read_to_end(settings.bootstrap, settings.dead_letters_topic, keep_bytes=MAX_RECORD_BYTES):
            run.process(records, None if limit is None else limit - run.sent_back)
            if run.sent_back == limit:
                break
    return run.result(limited=run.sent_back == limit)


def read_redrives(settings: Settings) -> tuple[set[RedriveId], int]:
    """The dead letters that were sent back before, and the number of records on `redrives` that Tamiz did not write.

    A record of Tamiz has the matching key and names a dead letter of `dead_letters_topic`.
    """
    place = re.compile(re.escape(settings.dead_letters_topic) + r"-[0-9]{1,10}-[0-9]{1,19}(@[\w-]+)?")
    found: set[RedriveId] = set()
    unusable = 0
    for records in read_to_end(settings.bootstrap, settings.redrives_topic):
        for record in records:
            try:
                marker = decode(record.value, Redrive)
            except msgspec.MsgspecError:
                unusable += record.value is not None  # a null value is a tombstone
                continue
            if record.key != redrive_key(marker) or place.fullmatch(marker.dead_letter) is None:
                unusable += 1
                continue
            found.add((marker.transaction_id, marker.consumed_from))
    return found, unusable
