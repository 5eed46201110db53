"""The log of moves and claims as it lies in MLflow: versions of a registered model of its own, `MODEL.tamiz-history`.

MLflow has no compare-and-set, and an alias goes to whoever writes last. But it numbers the versions of a registered
model by a unique key, on SQLite as on servers, and a version appears with its tags or not at all. So an entry is a
version: its number is its place, and `schemas.promotion_log.replay` decides which entries hold. No lock can go stale,
for there is none.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

from schemas.promotion_log import ENTRY_TAG, Claim, Entry, Move, Standing, encode_entry, log_name, read_log
from training import registry

SOURCE = "tamiz:/history"  # MLflow wants one: there is nothing to load
LOCKED_TIMEOUT_S = 30  # for SQLite, which refuses instead of waiting when two writers meet
LOCKED_DELAY_S = 0.05

T = TypeVar("T")


def read(client: Any, model: str) -> Standing:
    """What the model's log comes to; empty when there is none."""
    return read_log((number, tags) for number, _, tags in registry.all_versions(client, log_name(model)))


def append(
    client: Any,
    model: str,
    *,
    move: Move | None = None,
    compared: bool = False,
    claim: Claim | None = None,
) -> int:
    """Add an entry; its number. Whether it holds, `read` says."""
    entry = Entry(id=uuid4().hex, move=move, compared=compared, claim=claim)
    name = log_name(model)
    what = f"{move.change} version {move.version} by {move.by}: {move.reason}" if move else f"claim: {claim}"

    def add() -> int:
        made = client.create_model_version(
            name, SOURCE, tags={ENTRY_TAG: encode_entry(entry)}, description=what[:500], await_creation_for=0
        )
        return int(made.version)

    try:
        return when_unlocked(add)
    except registry.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    when_unlocked(lambda: registry.ensure_registered_model(client, name, _about(model)))
    return when_unlocked(add)


def mark(client: Any, model: str, number: int, key: str, value: str) -> None:
    """Set a tag on an entry; only who appended it does."""
    when_unlocked(lambda: client.set_model_version_tag(log_name(model), str(number), f"tamiz.{key}", value))


def marks(client: Any, model: str, number: int) -> dict[str, str]:
    """The tags of an entry."""
    return {
        name.removeprefix("tamiz."): value
        for name, value in client.get_model_version(log_name(model), str(number)).tags.items()
    }


def when_unlocked(write: Callable[[], T]) -> T:
    """Write to MLflow, again while SQLite is locked by another writer."""
    deadline = time.monotonic() + LOCKED_TIMEOUT_S
    while True:
        try:
            return write()
        except registry.MlflowException as error:
            if "database is locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(LOCKED_DELAY_S)


def _about(model: str) -> str:
    return (
        f"History of {model}, written by Tamiz: each version is one move or claim, and no model. "
        "Read it with `tamiz models history`."
    )
