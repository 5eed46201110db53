"""Where snapshots of profiles are kept: in `state_dir`, and in a place that all workers share, where one is set.

A file's name states what it is a snapshot of, so that the newest one that fits is found without reading any:

    profiles/transactions-3/00000000000004711000.58a3c1f09b2e77d4.hT2xNq8vR1iQz5aYb0cDeg.snapshot

A snapshot is a function of its input partition up to its offset, and of nothing else. So it does not matter which
worker wrote it, or whether two workers wrote the same one.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

from schemas.files.atomic_write import atomic_write
from schemas.files.private_files import private_folder
from stream_app.offsets.offset_validation import is_same_topic
from stream_app.profiles.snapshot_file import Snapshot, SnapshotError, SnapshotPosition, read_snapshot, write_snapshot

log = logging.getLogger("tamiz.profiles")
FOLDER = "profiles"  # in `state_dir`
KEPT = 2  # newest snapshots of a partition that are kept; the same number of those that this worker cannot use
_NAME = re.compile(r"(\d{20})\.([0-9a-f]*)\.([\w-]*)\.snapshot")


class SnapshotName(NamedTuple):
    """A snapshot's file name."""

    next_offset: int
    digest: str
    topic_id: str

    @classmethod
    def of(cls, position: SnapshotPosition) -> "SnapshotName":
        """The name of a snapshot."""
        return cls(position.next_offset, position.digest, position.topic_id)

    @property
    def text(self) -> str:
        """The name as text.

        >>> SnapshotName(4711, "58a3", "hT2x").text
        '00000000000000004711.58a3.hT2x.snapshot'
        """
        return f"{self.next_offset:020d}.{self.digest}.{self.topic_id}.snapshot"


class SnapshotPlace(Protocol):
    """A place that keeps files by folder and name. Every method may raise any exception of its store."""

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none if it does not exist."""

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        """A path at which a file of the place can be read. into: a temporary folder."""

    def remove(self, folder: str, name: str) -> None:
        """Delete a file."""


class SharedPlace(SnapshotPlace, Protocol):
    """A place that all workers read and write."""

    def add(self, folder: str, path: Path) -> None:
        """Copy a file into a folder, under its name, so that readers see all of it or nothing."""


class LocalFolder:
    """The snapshots in `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / FOLDER

    def names(self, folder: str) -> list[str]:
        """As `SnapshotPlace.names`."""
        path = self._root / folder
        return sorted(child.name for child in path.iterdir()) if path.is_dir() else []

    def write(self, folder: str, snapshot: Snapshot) -> Path:
        """Write a snapshot atomically and return its path. Raises OSError."""
        path = self._root / folder / SnapshotName.of(snapshot.position).text
        private_folder(path.parent)
        with atomic_write(path) as scratch:
            write_snapshot(scratch, snapshot)
        return path

    def fetch(self, folder: str, name: str, into: Path) -> Path:
        """As `SnapshotPlace.fetch`."""
        return self._root / folder / name

    def remove(self, folder: str, name: str) -> None:
        """As `SnapshotPlace.remove`."""
        (self._root / folder / name).unlink(missing_ok=True)


class SnapshotStore:
    """Finds, reads, writes and prunes snapshots. All methods block; none raises an exception of a place."""

    def __init__(
        self,
        local: LocalFolder,
        shared: SharedPlace | None = None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """on_refused: called for each snapshot that is damaged."""
        self._local = local
        self._shared = shared
        self._on_refused = on_refused

    def newest(
        self, topic: str, partition: int, *, topic_id: str, digest: str, max_offset: int
    ) -> tuple[Snapshot | None, str]:
        """The newest snapshot that fits, and one line for the log: which one, or why there is none.

        topic_id, digest: of the topic and of the declaration's profiles. max_offset: where the partition is read from;
        a snapshot beyond it would hold transactions that are not decided yet.
        """
        folder = _folder(topic, partition)
        refused: list[str] = []
        found: dict[tuple[int, bool], tuple[SnapshotPlace, str]] = {}
        others = {"profiles": 0, "topic": 0, "offset": 0}
        for place in self._places():
            for text, name in _parsed(self._names(place, folder)):
                if name.digest != digest:
                    others["profiles"] += 1
                elif not is_same_topic(name.topic_id, topic_id):
                    others["topic"] += 1
                elif name.next_offset > max_offset:
                    others["offset"] += 1
                else:
                    found[name.next_offset, place is self._local] = place, text
        for _, (place, text) in sorted(found.items(), reverse=True):
            snapshot = self._read(place, folder, text, refused)
            if snapshot is not None:
                return snapshot, f"snapshot at offset {snapshot.position.next_offset}"
        refused += [reason for count, reason in _reasons(others) if count]
        return None, "; ".join(refused) or "there is none"

    def save(self, snapshot: Snapshot) -> int | None:
        """Write a snapshot to every place and delete older ones. Its size in bytes; None if it could not be written."""
        position = snapshot.position
        folder = _folder(position.topic, position.partition)
        try:
            path = self._local.write(folder, snapshot)
            size = path.stat().st_size
        except OSError as error:
            log.error("%s: the snapshot of profiles cannot be written: %s", folder, error)
            return None
        self._prune(self._local, folder, position)
        if self._shared is not None:
            try:
                self._shared.add(folder, path)
            except Exception as error:  # each kind of store has its own exceptions
                log.error("%s: the snapshot cannot be copied to profile_snapshot_root: %.300s", folder, error)
                return None
            self._prune(self._shared, folder, position)
        return size

    def _places(self) -> Iterable[SnapshotPlace]:
        return (self._local,) if self._shared is None else (self._local, self._shared)

    def _names(self, place: SnapshotPlace, folder: str) -> list[str]:
        try:
            return place.names(folder)
        except Exception as error:
            log.error("%s: snapshots of profiles cannot be listed: %.300s", folder, error)
            return []

    def _read(self, place: SnapshotPlace, folder: str, text: str, refused: list[str]) -> Snapshot | None:
        try:
            with TemporaryDirectory(prefix="tamiz-snapshot-") as scratch:
                snapshot = read_snapshot(place.fetch(folder, text, Path(scratch)))
            name = SnapshotName.of(snapshot.position)
            if name.text != text or _folder(snapshot.position.topic, snapshot.position.partition) != folder:
                raise SnapshotError("its content is of another position than its name")
        except Exception as error:
            self._on_refused()
            refused.append(f"{text} is not used: {error}"[:300])
            log.error("%s: snapshot %s is not used: %.300s", folder, text, error)
            return None
        return snapshot

    def _prune(self, place: SnapshotPlace, folder: str, position: SnapshotPosition) -> None:
        named = sorted(_parsed(self._names(place, folder)), key=lambda found: found[1].next_offset, reverse=True)
        usable = [text for text, n in named if (n.digest, n.topic_id) == (position.digest, position.topic_id)]
        others = [text for text, n in named if (n.digest, n.topic_id) != (position.digest, position.topic_id)]
        for text in (*usable[KEPT:], *others[KEPT:]):
            try:
                place.remove(folder, text)
            except Exception as error:
                log.warning("%s: the old snapshot %s cannot be deleted: %.300s", folder, text, error)


def _folder(topic: str, partition: int) -> str:
    return f"{topic}-{partition}"


def _parsed(texts: Sequence[str]) -> list[tuple[str, SnapshotName]]:
    matches = [(text, _NAME.fullmatch(text)) for text in texts]
    return [(text, SnapshotName(int(m[1]), m[2], m[3])) for text, m in matches if m]


def _reasons(others: dict[str, int]) -> list[tuple[int, str]]:
    return [
        (others["profiles"], f"{others['profiles']} belong to another declaration of the profiles"),
        (others["topic"], f"{others['topic']} belong to an earlier topic of this name"),
        (others["offset"], f"{others['offset']} are ahead of the committed offset"),
    ]
