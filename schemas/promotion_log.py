"""Promotion history of a model: an append-only log in the registry, and the state that replaying it gives.

The registry assigns each entry a unique number, so every reader sees the same entries in the same order. An entry
states its preconditions. Replaying the log decides whether an entry is valid; the last writer does not win:

    1  promote 2                              valid: champion 2
    2  promote 3, compared with champion 2    valid: champion 3
    3  promote 4, compared with champion 2    invalid: the champion is 3 already

Each entry names its predecessor by number and SHA-256 (`schemas.log_chain`). If two writers append at the same time,
both name the same predecessor: the first entry is valid, and the other writer appends again. An entry is thus a
compare-and-set on the end of the log, and a later edit or deletion is detected.

The first entry of a version states the SHA-256 of its bundle. A transition with another SHA-256 is invalid.

The registry's aliases are derived from the log. An alias can differ because another program set it, or because its
writer crashed between the two writes; `LogState.champion` is authoritative.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from schemas.json_codec import decode
from schemas.log_chain import START, Head, entry_sha256, find_damage, fingerprint
from schemas.records import ModelEvent

CHAMPION = "champion"  # alias of the served version
BUNDLE = "bundle"  # folder of the model bundle among a run's artifacts
SUFFIX = ".tamiz-history"  # of the registered model that holds the log; each of its versions is an entry
ENTRY_TAG = "tamiz.entry"
HEAD_TAG = "tamiz.head"  # of the registered model: the last entry, so that its deletion is detected
MAX_TEXT_LENGTH = 1000  # characters of a reason or of evidence
MAX_NAME_LENGTH = 200  # characters of a name
CONFLICT_REASON = "another entry was written at the same time, and came first"
MAX_TAG_BYTES = 4800  # of a tag's value; MLflow's tables hold 5,000 characters

Change = Literal["promoted", "retained", "awaiting-approval", "rejected", "rolled-back"]
PROMOTING_CHANGES = frozenset({"promoted", "rolled-back"})
OUTCOMES_OF_TRAINING = frozenset({"promoted", "retained", "awaiting-approval"})


class VersionTransition(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the status of a version."""

    change: Change  # new status of `version`; after "rolled-back" it is champion again
    version: int
    previous: int | None  # the champion before the change; None: there was none
    reason: str
    evidence: str | None  # result of gate and comparison, in one sentence
    by: str  # who made the change, in the form of `schemas.security.actor`
    at: str  # ISO 8601, UTC
    correlation_id: str | None = None  # of the retrain request that led to the change
    bundle_sha256: str | None = None  # of the version's bundle at that time

    def event(self, model: str) -> ModelEvent:
        """Return the transition as a record for `model-events`."""
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
    """The registration of a version."""

    version: int
    bundle_sha256: str  # of the bundle that was trained and evaluated


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A retrainer's claim on one request, so that no second retrainer answers it."""

    correlation_id: str
    holder: str  # id of the retrainer
    after: int | None  # number of the expired claim that it replaces; None: there was none


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the log: a registration, a transition or a claim."""

    id: str  # chosen by the writer; an append that is repeated after a lost response counts once
    transition: VersionTransition | None = None
    compared: bool = False  # the transition is valid only while `transition.previous` is champion
    answers: int | None = None  # number of the version's last transition that this one follows; 0: it had none
    claim: Claim | None = None
    registration: Registration | None = None
    after: Head = START  # the preceding entry
    accepts: str | None = None  # fingerprint of the damage that a person accepted with this transition


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """Result of replaying the log."""

    last: int = 0  # number of the last entry; 0: the log is empty
    champion: int | None = None
    challenger: int | None = None
    held: Mapping[int, VersionTransition] = {}  # valid transitions by number, `previous` being the champion then
    refused: Mapping[int, str] = {}  # invalid entries by number, with the reason
    claims: Mapping[str, int] = {}  # by correlation id: number of the valid claim
    digests: Mapping[int, str] = {}  # by version: SHA-256 of its bundle, from its first entry
    numbers: Mapping[str, int] = {}  # by id of an entry: its number
    head: Head = START  # the last entry
    damage: str | None = None  # edited or deleted entries, in one line, unless a person accepted them
    fingerprint: str | None = None  # of all damage; None: there is none

    @property
    def transitions(self) -> tuple[VersionTransition, ...]:
        """Valid transitions, oldest first."""
        return tuple(self.held.values())

    def last_transition(self, version: int) -> int:
        """Number of the last valid transition of a version; 0: it has none."""
        return max((number for number, transition in self.held.items() if transition.version == version), default=0)

    @property
    def promotion(self) -> VersionTransition | None:
        """The transition that made the current champion, or None."""
        return next((m for m in self.transitions[::-1] if m.change in PROMOTING_CHANGES), None)


def log_name(model: str) -> str:
    """Name of the registered model that holds the promotion log of a model.

    >>> log_name("card-transactions")
    'card-transactions.tamiz-history'
    """
    return model + SUFFIX


def read_log(versions: Iterable[tuple[int, Mapping[str, str]]], heads: Sequence[Head] = ()) -> LogState:
    """Read the log, check its chain and replay it.

    versions: number and tags of each version of the log's registered model, in any order. heads: earlier last entries
    of the log, as other places remember them.
    """
    raw = {number: tags.get(ENTRY_TAG, "") for number, tags in sorted(versions, key=lambda pair: pair[0])}
    digests = {number: entry_sha256(number, text) for number, text in raw.items()}
    entries: dict[int, LogEntry | str] = {}
    after: dict[int, Head] = {}
    before = 0
    for number, text in raw.items():
        try:
            entry = decode(text.encode(), LogEntry)
        except msgspec.DecodeError as error:
            entries[number] = f"it is not an entry of a promotion history: {error}"
        else:
            if entry.after.number >= number:
                entries[number] = "it names a predecessor that is not before it"
            else:
                after[number] = entry.after
                entries[number] = CONFLICT_REASON if entry.after.number < before else entry
        before = number
    state = replay(entries.items())
    found_damages = find_damage(digests, after, heads)
    kept = dict(found_damages)
    for number in state.held:
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
    # If the last entry was edited, the next entry names its original SHA-256, so that the edit stays detectable.
    remembered = next((head for head in heads if head.number == last), None)
    head = remembered or (Head(number=last, sha256=digests[last]) if last else START)
    return msgspec.structs.replace(
        state, head=head, damage=damage, fingerprint=fingerprint(found_damages) if found_damages else None
    )


def replay(entries: Iterable[tuple[int, LogEntry | str]]) -> LogState:
    """State after all entries.

    entries: by number, ascending; a string in place of an entry is the reason why it is invalid.

    >>> first = VersionTransition(change="promoted", version=1, previous=None, reason="", evidence=None, by="a", at="")
    >>> replay([(1, LogEntry(id="x", transition=first)), (2, LogEntry(id="x", transition=first))]).refused
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
        so_far = LogState(champion=champion, held=held, claims=claims, digests=digests, numbers=numbers)
        why = entry if isinstance(entry, str) else _refusal(entry, so_far)
        if why is not None or isinstance(entry, str):
            refused[number] = str(why)
            continue
        numbers[entry.id] = number
        if entry.claim is not None:
            claims[entry.claim.correlation_id] = number
        if entry.registration is not None:
            digests[entry.registration.version] = entry.registration.bundle_sha256
        if (transition := entry.transition) is not None:
            if transition.bundle_sha256 is not None:
                digests.setdefault(transition.version, transition.bundle_sha256)
            held[number] = msgspec.structs.replace(transition, previous=champion)
            if transition.change in PROMOTING_CHANGES:
                champion = transition.version
            if transition.change in ("retained", "awaiting-approval"):
                challenger = transition.version
            elif challenger == transition.version:
                challenger = None
    return LogState(
        last=last,
        champion=champion,
        challenger=challenger,
        held=held,
        refused=refused,
        claims=claims,
        digests=digests,
        numbers=numbers,
    )


def _refusal(entry: LogEntry, now: LogState) -> str | None:
    transition, claim, registration = entry.transition, entry.claim, entry.registration
    if entry.id in now.numbers:
        return "it repeats an earlier entry"
    if claim is not None and now.claims.get(claim.correlation_id) != claim.after:
        return f"another retrainer has claimed {claim.correlation_id}"
    if registration is not None and registration.version in now.digests:
        return f"version {registration.version} has an entry already"
    return None if transition is None else _refusal_of_transition(transition, entry, now)


def _refusal_of_transition(transition: VersionTransition, entry: LogEntry, now: LogState) -> str | None:
    if entry.compared and now.champion != transition.previous:
        current, then = (f"version {v}" if v is not None else "no version" for v in (now.champion, transition.previous))
        return f"the champion is now {current}; it was {then} at the comparison"
    if entry.answers is not None and entry.answers != (last := now.last_transition(transition.version)):
        made = now.held.get(last)
        by = f"{made.change} by {made.by}" if made else "moved"
        return f"version {transition.version} was {by} a moment earlier"
    if transition.change == "rejected" and now.champion == transition.version:
        return f"version {transition.version} is now champion and cannot be rejected"
    recorded = now.digests.get(transition.version)
    if (
        transition.change != "rejected"
        and transition.bundle_sha256 is not None
        and recorded not in (None, transition.bundle_sha256)
    ):
        return _replaced_bundle(transition.version, transition.bundle_sha256, str(recorded))
    if transition.correlation_id is not None and transition.change in OUTCOMES_OF_TRAINING:
        earlier = next(
            (
                m
                for m in now.transitions
                if m.correlation_id == transition.correlation_id and m.change in OUTCOMES_OF_TRAINING
            ),
            None,
        )
        if earlier is not None:
            return f"{transition.correlation_id} is answered already, by version {earlier.version}"
    return None


def _replaced_bundle(version: int, sha256: str, recorded: str) -> str:
    return (
        f"the bundle of version {version} has SHA-256 {sha256[:12]}…, but {recorded[:12]}… was evaluated: it was "
        "replaced or damaged"
    )


def inconsistency(state: LogState, alias: int | None) -> str | None:
    """Why the registry is not trusted, in one line: a damaged history, or an alias that differs from it; else None."""
    return state.damage or alias_mismatch(state, alias)


def alias_mismatch(state: LogState, alias: int | None) -> str | None:
    """How the registry's alias `champion` differs from the history, in one line; None if it does not.

    >>> alias_mismatch(LogState(champion=2), 3)
    "the registry's champion is version 3, its history of promotions ends with version 2"
    """
    if alias == state.champion:
        return None
    if alias is None:
        return f"the registry has no champion, its history of promotions ends with version {state.champion}"
    ends = "names none" if state.champion is None else f"ends with version {state.champion}"
    return f"the registry's champion is version {alias}, its history of promotions {ends}"


def encode_entry(entry: LogEntry) -> str:
    """Encode an entry for its tag; texts are shortened until the entry fits.

    >>> long = VersionTransition(change="promoted", version=1, previous=None, reason="\\x01" * 9000, evidence=None,
    ...     by="a", at="")
    >>> len(encode_entry(LogEntry(id="x", transition=long))) <= MAX_TAG_BYTES
    True
    """
    length = MAX_TEXT_LENGTH
    while True:
        transition = entry.transition and msgspec.structs.replace(
            entry.transition,
            reason=entry.transition.reason[:length],
            evidence=entry.transition.evidence and entry.transition.evidence[:length],
            by=entry.transition.by[:MAX_NAME_LENGTH],
        )
        text = msgspec.json.encode(msgspec.structs.replace(entry, transition=transition))
        if len(text) <= MAX_TAG_BYTES or not length:
            return text.decode()
        length = length * 3 // 4
