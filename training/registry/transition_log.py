"""The log of registrations, moves and claims in MLflow: versions of a registered model, `MODEL.tamiz-history`.

MLflow has no compare-and-set, and an alias goes to whoever writes last. But it numbers the versions of a registered
model by a unique key, on SQLite as on servers, and a version appears with its tags or not at all. So an entry is a
version: its number is its place, and `schemas.promotion_log.replay` decides which entries hold. No lock can go stale,
for there is none.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import msgspec

from schemas.errors import ModelUnavailableError
from schemas.log_chain import START, Head, read_head
from schemas.promotion_log import (
    CONFLICT_REASON,
    ENTRY_TAG,
    HEAD_TAG,
    Claim,
    LogEntry,
    LogState,
    Registration,
    VersionTransition,
    encode_entry,
    log_name,
    read_log,
)
from training.registry.model_versions import MlflowException, all_versions, ensure_registered_model

SOURCE = "tamiz:/history"  # MLflow wants one: there is nothing to load
LOCKED_TIMEOUT_S = 30  # for SQLite, which refuses instead of waiting when two writers meet
LOCKED_DELAY_S = 0.05
MAX_ATTEMPTS = 50  # to append: each is lost to another writer that has appended meanwhile

T = TypeVar("T")


class LogMovedError(ModelUnavailableError):
    """The log does not end where the entry was to be appended: somebody else has written meanwhile."""


def read(client: Any, model: str) -> LogState:
    """What the model's log comes to; empty when there is none."""
    head = _head(client, log_name(model))  # before the entries, which may grow in between
    return read_log(((number, tags) for number, _, tags in all_versions(client, log_name(model))), [head])


def append(
    client: Any,
    model: str,
    *,
    move: VersionTransition | None = None,
    compared: bool = False,
    answers: int | None = None,
    accepts: str | None = None,
    claim: Claim | None = None,
    registration: Registration | None = None,
    after: int | None = None,
) -> int:
    """Add an entry; its number. Whether it holds, `read` says. The arguments are an `Entry`'s.

    after: number of the entry that must be the last; None: wherever the log ends.
    Raises LogMovedError when another is the last, or when others are always first.
    """
    name = log_name(model)
    what = f"{move.change} version {move.version} by {move.by}: {move.reason}" if move else str(claim or registration)
    now = read(client, model)
    for _ in range(MAX_ATTEMPTS):
        if after is not None and now.last != after:
            break
        entry = LogEntry(
            id=uuid4().hex,
            move=move,
            compared=compared,
            answers=answers,
            accepts=accepts,
            claim=claim,
            registration=registration,
            after=now.head,
        )
        number = _create(client, model, name, encode_entry(entry), what[:500])
        now = read(client, model)
        if entry.id in now.numbers:
            number = now.numbers[entry.id]  # MLflow's client may have written it twice
        elif now.refused.get(number) == CONFLICT_REASON:
            continue
        head = msgspec.json.encode(now.head).decode()
        when_unlocked(lambda head=head: client.set_registered_model_tag(name, HEAD_TAG, head))  # type: ignore[misc]
        return number
    raise LogMovedError(f"{name} ends with entry {now.last} by now: others write to it; try again")


def _create(client: Any, model: str, name: str, text: str, what: str) -> int:
    def add() -> int:
        made = client.create_model_version(name, SOURCE, tags={ENTRY_TAG: text}, description=what, await_creation_for=0)
        return int(made.version)

    try:
        return when_unlocked(add)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    when_unlocked(lambda: ensure_registered_model(client, name, _about(model)))
    return when_unlocked(add)


def _head(client: Any, name: str) -> Head:
    try:
        return read_head(client.get_registered_model(name).tags.get(HEAD_TAG))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return START


def mark(client: Any, model: str, number: int, key: str, value: str) -> None:
    """Set a tag on an entry; only who appended it does."""
    when_unlocked(lambda: client.set_model_version_tag(log_name(model), str(number), f"tamiz.{key}", value))


def marks(client: Any, model: str, number: int) -> dict[str, str]:
    """The tags of an entry."""
    return {
        name.removeprefix("tamiz."): value
        for name, value in client.get_model_version(log_name(model), str(number)).tags.items()
    }


def entry_time() -> str:
    """The time of an entry that is written now: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def when_unlocked(write: Callable[[], T]) -> T:
    """Write to MLflow, again while SQLite is locked by another writer."""
    deadline = time.monotonic() + LOCKED_TIMEOUT_S
    while True:
        try:
            return write()
        except MlflowException as error:
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(LOCKED_DELAY_S)


def _about(model: str) -> str:
    return (
        f"History of {model}, written by Tamiz: each version is one entry, and no model. "
        "Read it with `tamiz models history`."
    )
