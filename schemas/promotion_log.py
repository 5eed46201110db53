"""The history of a model's promotions: an append-only log in the registry, and what follows from reading it.

Each entry has a number that the registry gives out once, so every reader sees the same entries in the same order. An
entry states what it rests on; whether it holds is decided by replaying the log, never by who wrote last:

    1  promote 2                              holds: champion 2
    2  promote 3, compared with champion 2    holds: champion 3
    3  promote 4, compared with champion 2    refused: the champion is 3 by now

Each entry names the entry before it by number and SHA-256 (`schemas.log_chain`). Two writers that append at once both
name the same one: the first holds, the other appends again. So an entry is a compare-and-set on the log's position,
and one that is edited or deleted later is found.

The first entry about a version names the SHA-256 of its bundle, as it was registered. No move holds with another.

The registry's aliases follow from the log. An alias that says something else was set by somebody else, or its writer
died between the two; `Standing.champion` is what counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from schemas.json_codec import decode
from schemas.log_chain import START, Head, damages, entry_sha256, fingerprint
from schemas.records import ModelEvent

SUFFIX = ".tamiz-history"  # of the registered model that holds a model's log: each of its versions is an entry
ENTRY_TAG = "tamiz.entry"
HEAD_TAG = "tamiz.head"  # of the registered model: the log's last entry, so that its loss is found
MAX_TEXT_LENGTH = 1000  # characters of a reason or of evidence
MAX_NAME_LENGTH = 200  # characters of a name
OVERTAKEN = "another entry was written at the same time, and came first"
MAX_TAG_BYTES = 4800  # of a tag's value: MLflow's own tables hold 5,000 characters

Change = Literal["promoted", "retained", "awaiting-approval", "rejected", "rolled-back"]
CROWNING = frozenset({"promoted", "rolled-back"})
OUTCOMES_OF_TRAINING = frozenset({"promoted", "retained", "awaiting-approval"})


class VersionTransition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of what a version is."""

    change: Change  # what happened to `version`; by "rolled-back" it is champion again
    version: int
    previous: int | None  # who was champion until then; None: nobody
    reason: str
    evidence: str | None  # what it rests on: the verdict of gate and comparison, in a sentence
    by: str  # as `schemas.security.actor` writes it
    at: str  # ISO 8601, UTC
    correlation_id: str | None = None  # of the retraining that led here
    bundle_sha256: str | None = None  # of the bundle that the version had then

    def event(self, model: str) -> ModelEvent:
        """The move as `model-events` tells it."""
        return ModelEvent(
            model=model,
            model_version=self.version,
            change=self.change,
            reason=self.reason,
            by=self.by,
            happened_at_ms=int(datetime.fromisoformat(self.at).timestamp() * 1000),
            correlation_id=self.correlation_id,
        )


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A version as it was registered."""

    version: int
    bundle_sha256: str  # of the bundle that was trained and judged


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A retrainer's claim to answer one request."""

    correlation_id: str
    holder: str
    after: int | None  # number of the claim it takes over; None: there was none


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one number of the log holds: a registration, a move or a claim."""

    id: str  # the writer's own: an append that is repeated after a lost answer counts once
    move: VersionTransition | None = None
    compared: bool = False  # the move holds only while `move.previous` is champion
    answers: int | None = None  # number of the version's last move that this one rests on; 0: it had none
    claim: Claim | None = None
    registration: Registration | None = None
    after: Head = START  # the entry before
    accepts: str | None = None  # fingerprint of the damages that a person saw and accepted with this move


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a log comes to."""

    last: int = 0  # number of its last entry; 0: there is none
    champion: int | None = None
    challenger: int | None = None
    held: Mapping[int, VersionTransition] = {}  # the moves that hold, by number, `previous` as it was
    refused: Mapping[int, str] = {}  # entries that do not hold, by number, and why
    claims: Mapping[str, int] = {}  # by loop: number of the claim that holds
    digests: Mapping[int, str] = {}  # by version: SHA-256 of its bundle, by its first entry
    numbers: Mapping[str, int] = {}  # by an entry's id: the number that counts
    head: Head = START  # the last entry
    damage: str | None = None  # in one line: entries that were edited or deleted, unless a person accepted that
    fingerprint: str | None = None  # of all damages; None: there are none

    @property
    def moves(self) -> tuple[VersionTransition, ...]:
        """The moves that hold, oldest first."""
        return tuple(self.held.values())

    def last_move(self, version: int) -> int:
        """Number of a version's last move that holds; 0: it has none."""
        return max((number for number, move in self.held.items() if move.version == version), default=0)

    @property
    def promotion(self) -> VersionTransition | None:
        """The move that made the champion champion."""
        return next((m for m in self.moves[::-1] if m.change in CROWNING), None)


def log_name(model: str) -> str:
    """The registered model that holds a model's log.

    >>> log_name("card-transactions")
    'card-transactions.tamiz-history'
    """
    return model + SUFFIX


def read_log(found: Iterable[tuple[int, Mapping[str, str]]], heads: Sequence[Head] = ()) -> Standing:
    """What a log comes to.

    found: number and tags of each version of its registered model, in any order. heads: remembered entries,
    each the log's last at some time.
    """
    raw = {number: tags.get(ENTRY_TAG, "") for number, tags in sorted(found, key=lambda pair: pair[0])}
    digests = {number: entry_sha256(number, text) for number, text in raw.items()}
    entries: dict[int, LogEntry | str] = {}
    after: dict[int, Head] = {}
    before = 0
    for number, text in raw.items():
        try:
            entry = decode(text.encode(), LogEntry)
        except msgspec.DecodeError as error:
            entries[number] = f"it is no entry of a history: {error}"
        else:
            if entry.after.number >= number:
                entries[number] = "it names an entry that is not before it"
            else:
                after[number] = entry.after
                entries[number] = OVERTAKEN if entry.after.number < before else entry
        before = number
    standing = replay(entries.items())
    found_damages = damages(digests, after, heads)
    kept = dict(found_damages)
    for number in standing.held:
        holding = entries[number]
        if not isinstance(holding, str) and holding.accepts is not None:
            seen = {n: line for n, line in found_damages.items() if n < number}
            if fingerprint(seen) == holding.accepts:
                kept = {n: line for n, line in found_damages.items() if n not in seen}
    damage = None
    if kept:
        more = f", and {len(kept) - 1} more" if len(kept) > 1 else ""
        damage = f"the history of promotions was tampered with: {next(iter(kept.values()))}{more}"
    last = max(digests, default=0)
    # As it was remembered, where somebody has edited it: the next entry names it so, and the edit stays visible.
    remembered = next((head for head in heads if head.number == last), None)
    head = remembered or (Head(number=last, sha256=digests[last]) if last else START)
    return msgspec.structs.replace(
        standing, head=head, damage=damage, fingerprint=fingerprint(found_damages) if found_damages else None
    )


def replay(entries: Iterable[tuple[int, LogEntry | str]]) -> Standing:
    """What a log comes to. entries: by number, ascending; a text instead of an entry says why it is none.

    >>> first = VersionTransition(change="promoted", version=1, previous=None, reason="", evidence=None, by="a", at="")
    >>> replay([(1, LogEntry(id="x", move=first)), (2, LogEntry(id="x", move=first))]).refused
    {2: 'it repeats an earlier entry'}
    """
    champion: int | None = None
    challenger: int | None = None
    held: dict[int, VersionTransition] = {}
    refused: dict[int, str] = {}
    claims: dict[str, int] = {}
    digests: dict[int, str] = {}
    numbers: dict[str, int] = {}
    last = 0
    for number, entry in entries:
        last = number
        so_far = Standing(champion=champion, held=held, claims=claims, digests=digests, numbers=numbers)
        why = entry if isinstance(entry, str) else _refusal(entry, so_far)
        if why is not None or isinstance(entry, str):
            refused[number] = str(why)
            continue
        numbers[entry.id] = number
        if entry.claim is not None:
            claims[entry.claim.correlation_id] = number
        if entry.registration is not None:
            digests[entry.registration.version] = entry.registration.bundle_sha256
        if (move := entry.move) is not None:
            if move.bundle_sha256 is not None:
                digests.setdefault(move.version, move.bundle_sha256)
            held[number] = msgspec.structs.replace(move, previous=champion)
            if move.change in CROWNING:
                champion = move.version
            if move.change in ("retained", "awaiting-approval"):
                challenger = move.version
            elif challenger == move.version:
                challenger = None
    return Standing(
        last=last,
        champion=champion,
        challenger=challenger,
        held=held,
        refused=refused,
        claims=claims,
        digests=digests,
        numbers=numbers,
    )


def _refusal(entry: LogEntry, now: Standing) -> str | None:
    move, claim, registration = entry.move, entry.claim, entry.registration
    if entry.id in now.numbers:
        return "it repeats an earlier entry"
    if claim is not None and now.claims.get(claim.correlation_id) != claim.after:
        return f"another retrainer has claimed {claim.correlation_id}"
    if registration is not None and registration.version in now.digests:
        return f"version {registration.version} has an entry already"
    return None if move is None else _refusal_of_move(move, entry, now)


def _refusal_of_move(move: VersionTransition, entry: LogEntry, now: Standing) -> str | None:
    if entry.compared and now.champion != move.previous:
        current, then = (f"version {v}" if v is not None else "nobody" for v in (now.champion, move.previous))
        return f"the champion is {current} by now and was {then} when it was compared"
    if entry.answers is not None and entry.answers != (last := now.last_move(move.version)):
        made = now.held.get(last)
        by = f"{made.change} by {made.by}" if made else "moved"
        return f"version {move.version} was {by} a moment earlier"
    if move.change == "rejected" and now.champion == move.version:
        return f"version {move.version} is champion by now and cannot be rejected"
    judged = now.digests.get(move.version)
    if move.change != "rejected" and move.bundle_sha256 is not None and judged not in (None, move.bundle_sha256):
        return _exchanged(move.version, move.bundle_sha256, str(judged))
    if move.correlation_id is not None and move.change in OUTCOMES_OF_TRAINING:
        earlier = next(
            (m for m in now.moves if m.correlation_id == move.correlation_id and m.change in OUTCOMES_OF_TRAINING), None
        )
        if earlier is not None:
            return f"{move.correlation_id} is answered already, by version {earlier.version}"
    return None


def _exchanged(version: int, sha256: str, judged: str) -> str:
    return (
        f"the bundle of version {version} has the SHA-256 {sha256[:12]}…, and {judged[:12]}… was judged: it was "
        "exchanged or damaged"
    )


def objection(standing: Standing, alias: int | None) -> str | None:
    """In one line, why the registry is not to be trusted as it is: damage of the history, or an alias that differs."""
    return standing.damage or disagreement(standing, alias)


def disagreement(standing: Standing, alias: int | None) -> str | None:
    """In one line, how the registry's alias `champion` differs from the history; None when it does not.

    >>> disagreement(Standing(champion=2), 3)
    "the registry's champion is version 3, its history of promotions ends with version 2"
    """
    if alias == standing.champion:
        return None
    if alias is None:
        return f"the registry has no champion, its history of promotions ends with version {standing.champion}"
    ends = "names none" if standing.champion is None else f"ends with version {standing.champion}"
    return f"the registry's champion is version {alias}, its history of promotions {ends}"


def encode_entry(entry: LogEntry) -> str:
    """An entry as its tag holds it: texts are shortened until it fits.

    >>> long = VersionTransition(change="promoted", version=1, previous=None, reason="\\x01" * 9000, evidence=None,
    ...     by="a", at="")
    >>> len(encode_entry(LogEntry(id="x", move=long))) <= MAX_TAG_BYTES
    True
    """
    length = MAX_TEXT_LENGTH
    while True:
        move = entry.move and msgspec.structs.replace(
            entry.move,
            reason=entry.move.reason[:length],
            evidence=entry.move.evidence and entry.move.evidence[:length],
            by=entry.move.by[:MAX_NAME_LENGTH],
        )
        text = msgspec.json.encode(msgspec.structs.replace(entry, move=move))
        if len(text) <= MAX_TAG_BYTES or not length:
            return text.decode()
        length = length * 3 // 4
