"""The append-only log of registrations, transitions and claims, stored in MLflow as versions of `MODEL.tamiz-history`.

MLflow has no compare-and-set, and the last writer of an alias wins. But it gives the versions of a registered model
unique, increasing numbers, and creates a version and its tags atomically. So each log entry is a version, its number is
its position, and `schemas.promotion_log` decides which entries are valid. No locks are needed.
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

SOURCE = "tamiz:/history"  # MLflow requires a source; there is nothing to load
LOCK_TIMEOUT_S = 30  # SQLite fails instead of waiting when two writers meet
LOCK_RETRY_DELAY_S = 0.05
MAX_APPEND_ATTEMPTS = 50  # an attempt fails when another writer appends first

T = TypeVar("T")


class LogMovedError(ModelUnavailableError):
    """An entry was not appended, because another writer has appended to the log meanwhile."""


def read(client: Any, model: str) -> LogState:
    """State of the model's log; empty if there is none."""
    head = _head(client, log_name(model))  # before the entries, which may grow in between
    return read_log(((number, tags) for number, _, tags in all_versions(client, log_name(model))), [head])


def append(
    client: Any,
    model: str,
    *,
    transition: VersionTransition | None = None,
    compared: bool = False,
    answers: int | None = None,
    accepts: str | None = None,
    claim: Claim | None = None,
    registration: Registration | None = None,
    after: int | None = None,
) -> int:
    """Append an entry; returns its number. `read` states whether it is valid. The arguments are fields of `LogEntry`.

    after: number of the entry that must be the last one; None for any.
    Raises LogMovedError when another entry is the last, or other writers come first in every attempt.
    """
    name = log_name(model)
    what = (
        f"{transition.change} version {transition.version} by {transition.by}: {transition.reason}"
        if transition
        else str(claim or registration)
    )
    now = read(client, model)
    for _ in range(MAX_APPEND_ATTEMPTS):
        if after is not None and now.last != after:
            break
        entry = LogEntry(
            id=uuid4().hex,
            transition=transition,
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
            number = now.numbers[entry.id]  # MLflow's client retries, so the entry may be there twice
        elif now.refused.get(number) == CONFLICT_REASON:
            continue
        head = msgspec.json.encode(now.head).decode()
        retry_while_locked(lambda head=head: client.set_registered_model_tag(name, HEAD_TAG, head))  # type: ignore[misc]
        return number
    raise LogMovedError(f"{name}: other writers have appended up to entry {now.last} meanwhile; try again")


def _create(client: Any, model: str, name: str, text: str, what: str) -> int:
    def add() -> int:
        made = client.create_model_version(name, SOURCE, tags={ENTRY_TAG: text}, description=what, await_creation_for=0)
        return int(made.version)

    try:
        return retry_while_locked(add)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    retry_while_locked(lambda: ensure_registered_model(client, name, _description(model)))
    return retry_while_locked(add)


def _head(client: Any, name: str) -> Head:
    try:
        return read_head(client.get_registered_model(name).tags.get(HEAD_TAG))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return START


def set_entry_tag(client: Any, model: str, number: int, key: str, value: str) -> None:
    """Set a tag on an entry. Only the writer of the entry does so."""
    retry_while_locked(lambda: client.set_model_version_tag(log_name(model), str(number), f"tamiz.{key}", value))


def entry_tags(client: Any, model: str, number: int) -> dict[str, str]:
    """The tags of an entry, without the prefix `tamiz.`."""
    return {
        name.removeprefix("tamiz."): value
        for name, value in client.get_model_version(log_name(model), str(number)).tags.items()
    }


def entry_time() -> str:
    """The current time for a new entry: ISO 8601, UTC, with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def retry_while_locked(write: Callable[[], T]) -> T:
    """Call `write`, and retry for `LOCK_TIMEOUT_S` while another writer locks the SQLite database."""
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            return write()
        except MlflowException as error:
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(LOCK_RETRY_DELAY_S)


def _description(model: str) -> str:
    return (
        f"Transition log of {model}, written by Tamiz. Each version is a log entry, not a model. "
        "Read it with `tamiz models history`."
    )
