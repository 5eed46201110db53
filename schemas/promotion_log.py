"""The history of a model's promotions: an append-only log in the registry, and what follows from reading it.

Each entry has a number that the registry gives out once, so every reader sees the same entries in the same order. An
entry states what it rests on; whether it holds is decided by replaying the log, never by who wrote last:

    1  promote 2                              holds: champion 2
    2  promote 3, compared with champion 2    holds: champion 3
    3  promote 4, compared with champion 2    refused: the champion is 3 by now

The registry's aliases follow from the log. An alias that says something else was set by somebody else, or its writer
died between the two; `Standing.champion` is what counts.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from schemas.events import ModelEvent
from schemas.wire import decode

SUFFIX = ".tamiz-history"  # of the registered model that holds a model's log: each of its versions is an entry
ENTRY_TAG = "tamiz.entry"
MAX_TEXT_LENGTH = 1000  # characters of a reason or of evidence
MAX_NAME_LENGTH = 200  # characters of a name
MAX_TAG_BYTES = 4800  # of a tag's value: MLflow's own tables hold 5,000 characters

Change = Literal["promoted", "retained", "awaiting-approval", "rejected", "rolled-back"]
CROWNING = frozenset({"promoted", "rolled-back"})
OUTCOMES_OF_TRAINING = frozenset({"promoted", "retained", "awaiting-approval"})


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One change of what a version is."""

    change: Change  # what happened to `version`; by "rolled-back" it is champion again
    version: int
    previous: int | None  # who was champion until then; None: nobody
    reason: str
    evidence: str | None  # what it rests on: the verdict of gate and comparison, in a sentence
    by: str  # as `schemas.actor` writes it
    at: str  # ISO 8601, UTC
    loop_id: str | None = None  # of the retraining that led here
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
            loop_id=self.loop_id,
        )


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A retrainer's claim to answer one request."""

    loop_id: str
    holder: str
    after: int | None  # number of the claim it takes over; None: there was none


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What one number of the log holds: a move or a claim."""

    id: str  # the writer's own: an append that is repeated after a lost answer counts once
    move: Move | None = None
    compared: bool = False  # the move holds only while `move.previous` is champion
    claim: Claim | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a log comes to."""

    last: int = 0  # number of its last entry; 0: there is none
    champion: int | None = None
    challenger: int | None = None
    held: Mapping[int, Move] = {}  # the moves that hold, by number, `previous` as it was
    refused: Mapping[int, str] = {}  # entries that do not hold, by number, and why
    claims: Mapping[str, int] = {}  # by loop: number of the claim that holds

    @property
    def moves(self) -> tuple[Move, ...]:
        """The moves that hold, oldest first."""
        return tuple(self.held.values())

    @property
    def promotion(self) -> Move | None:
        """The move that made the champion champion."""
        return next((m for m in self.moves[::-1] if m.change in CROWNING), None)


def log_name(model: str) -> str:
    """The registered model that holds a model's log.

    >>> log_name("card-transactions")
    'card-transactions.tamiz-history'
    """
    return model + SUFFIX


def read_log(found: Iterable[tuple[int, Mapping[str, str]]]) -> Standing:
    """What a log comes to. found: number and tags of each version of its registered model, in any order."""
    entries: list[tuple[int, Entry | str]] = []
    for number, tags in sorted(found, key=lambda pair: pair[0]):
        try:
            entries.append((number, decode(tags.get(ENTRY_TAG, "").encode(), Entry)))
        except msgspec.DecodeError as error:
            entries.append((number, f"it is no entry of a history: {error}"))
    return replay(entries)


def replay(entries: Iterable[tuple[int, Entry | str]]) -> Standing:
    """What a log comes to. entries: by number, ascending; a text instead of an entry says why it is none.

    >>> first = Move(change="promoted", version=1, previous=None, reason="", evidence=None, by="a", at="")
    >>> replay([(1, Entry(id="x", move=first)), (2, Entry(id="x", move=first))]).refused
    {2: 'it repeats an earlier entry'}
    """
    champion: int | None = None
    challenger: int | None = None
    held: dict[int, Move] = {}
    refused: dict[int, str] = {}
    claims: dict[str, int] = {}
    seen: set[str] = set()
    last = 0
    for number, entry in entries:
        last = number
        why = entry if isinstance(entry, str) else _refusal(entry, champion, held.values(), claims, seen)
        if why is not None or isinstance(entry, str):
            refused[number] = str(why)
            continue
        seen.add(entry.id)
        if entry.claim is not None:
            claims[entry.claim.loop_id] = number
        if (move := entry.move) is not None:
            held[number] = msgspec.structs.replace(move, previous=champion)
            if move.change in CROWNING:
                champion = move.version
            if move.change in ("retained", "awaiting-approval"):
                challenger = move.version
            elif challenger == move.version:
                challenger = None
    return Standing(last=last, champion=champion, challenger=challenger, held=held, refused=refused, claims=claims)


def _refusal(
    entry: Entry, champion: int | None, moves: Iterable[Move], claims: Mapping[str, int], seen: set[str]
) -> str | None:
    move, claim = entry.move, entry.claim
    if entry.id in seen:
        return "it repeats an earlier entry"
    if claim is not None and claims.get(claim.loop_id) != claim.after:
        return f"another retrainer has claimed {claim.loop_id}"
    if move is None:
        return None
    if entry.compared and champion != move.previous:
        now, then = (f"version {v}" if v is not None else "nobody" for v in (champion, move.previous))
        return f"the champion is {now} by now and was {then} when it was compared"
    if move.change == "rejected" and champion == move.version:
        return f"version {move.version} is champion by now and cannot be rejected"
    if move.loop_id is not None and move.change in OUTCOMES_OF_TRAINING:
        earlier = next((m for m in moves if m.loop_id == move.loop_id and m.change in OUTCOMES_OF_TRAINING), None)
        if earlier is not None:
            return f"{move.loop_id} is answered already, by version {earlier.version}"
    return None


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


def encode_entry(entry: Entry) -> str:
    """An entry as its tag holds it: texts are shortened until it fits.

    >>> long = Move(change="promoted", version=1, previous=None, reason="\\x01" * 9000, evidence=None, by="a", at="")
    >>> len(encode_entry(Entry(id="x", move=long))) <= MAX_TAG_BYTES
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
