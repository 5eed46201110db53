"""Finds decisions and logged values in the archive, for `tamiz explain`."""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from datetime import date, timedelta

import msgspec

from schemas.configuration.settings import Settings
from schemas.json_codec import decode
from schemas.records import FeatureRecord
from stream_app.kafka.topic_reader import ConsumedRecord
from tamiz.archive.archive_store import ArchiveStore
from tamiz.archive.manifest import ArchiveManifest, FileName, day_of
from tamiz.archive.parquet_file import ArchivedRecord, read_records

DECISIONS, FEATURES = "decisions", "feature-log"
ONE_DAY = timedelta(days=1)


class ArchiveSearch:
    """A `stream_app.decisions.decision_explanation.DecisionArchive`."""

    def __init__(self, settings: Settings, progress: Callable[[str, int, int], None] = lambda step, done, of: None):
        """progress: called with a step, how many days are done, and of how many."""
        self._store = ArchiveStore(settings)
        self._progress = progress
        self._names: dict[tuple[str, date], list[FileName]] = {}

    def find_decisions(
        self, ids: Collection[str], place: tuple[int, int] | None, day: date | None
    ) -> Iterator[ConsumedRecord]:
        """As `DecisionArchive.find_decisions`."""
        if place is not None:
            yield from self._at_place(ids, *place)
        days = [d for d in reversed(self._store.days(DECISIONS)) if day is None or d == day]
        for number, one in enumerate(days):
            self._progress(f"searching {self._store.root}, {one}", number, len(days))
            for name in self._files(DECISIONS, one):
                yield from reversed(self._read(DECISIONS, one, name, "decision_id", ids))

    def find_features(self, decision: ConsumedRecord, input_offset: int) -> FeatureRecord | None:
        """As `DecisionArchive.find_features`."""
        written = day_of(max(0, decision.timestamp))  # with the decision, so on the same day or an adjacent one
        for day in (written, written + ONE_DAY, written - ONE_DAY):
            for name in self._files(FEATURES, day):
                if name.partition == decision.partition:
                    for record in reversed(self._read(FEATURES, day, name, "input_offset", [input_offset])):
                        if (found := _features(record)) is not None:
                            return found
        return None

    def _at_place(self, ids: Collection[str], partition: int, input_offset: int) -> Iterator[ConsumedRecord]:
        """The decisions in the first file that extends to an offset of the input."""
        files = [(d, n) for d in self._store.days(DECISIONS) for n in self._files(DECISIONS, d)]
        files = [(day, name) for day, name in files if name.partition == partition]
        at = bisect_left(files, input_offset, key=lambda f: self._manifest(DECISIONS, *f).last_input_offset)
        if at < len(files):
            yield from reversed(self._read(DECISIONS, *files[at], "decision_id", ids))

    def _files(self, topic: str, day: date) -> list[FileName]:
        if (topic, day) not in self._names:
            self._names[topic, day] = self._store.files(topic, day)
        return self._names[topic, day]

    def _manifest(self, topic: str, day: date, name: FileName) -> ArchiveManifest:
        return self._store.manifest(topic, day, name)

    def _read(
        self, topic: str, day: date, name: FileName, column: str, values: Collection[str | int]
    ) -> list[ArchivedRecord]:
        manifest = self._manifest(topic, day, name)
        if not manifest.records:
            return []
        with self._store.data(topic, manifest) as path:
            return read_records(path, manifest.topic, name.partition, column=column, values=values)


def _features(record: ArchivedRecord) -> FeatureRecord | None:
    try:
        return decode(record.value or b"", FeatureRecord)
    except msgspec.MsgspecError:
        return None
