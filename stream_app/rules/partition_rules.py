"""Which rules a worker's transactions meet: the current ones, and after a takeover those that were stamped.

* A stamp precedes the decisions that use it: it is written with the batch in which a partition first meets a state.
* Transactions that are decided already, and are decided again after a crash, meet the rules that were stamped for them.
  The last output record of the partition shows how far that goes.
* A partition never goes back to older rules: before it is decided, the worker has read all that the stamps name.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from faust.types import TP
from kafka.errors import KafkaError

from schemas.configuration.settings import Settings
from schemas.errors import BrokerError
from schemas.time_units import DAY_MS
from scoring.rules.rule_state import RuleState
from stream_app.kafka.batches.record_columns import join_records, split_records
from stream_app.offsets.offset_validation import is_same_topic
from stream_app.offsets.output_offsets import read_output_offsets
from stream_app.output.outgoing_records import NO_RECORDS, OutgoingRecord, OutgoingRecords
from stream_app.rules.activation_log import NO_STAMP, RulePiece, RuleVersion, Stamp, joined_pieces, stamped_pieces
from stream_app.rules.activation_metrics import ActivationMetrics
from stream_app.rules.activation_reader import REJECTIONS, FoundStamps, Rejection, read_activations
from stream_app.rules.rule_follower import CurrentRules, RuleFollower
from stream_app.rules.rule_plan import RulePlan

log = logging.getLogger("tamiz.rules")
RETRY_DELAY_S = 1.0
REPEAT_STAMP_MS = DAY_MS  # so that retention leaves the stamp of every transaction that it leaves


class _Partition:
    """What is known of a partition since it was acquired."""

    def __init__(self, found: FoundStamps) -> None:
        self.found = found
        self.decided_until: int | None = None  # offsets below may have been decided; None: not known yet
        self.last: Stamp | None = None  # of this worker, once transactions meet the current rules


class PartitionRules:
    """The rules of a worker's partitions. Used in the event loop."""

    def __init__(self, settings: Settings, follower: RuleFollower, metrics: ActivationMetrics) -> None:
        self._settings = settings
        self._follower = follower
        self._metrics = metrics
        self._epoch: tuple[int, int] | None = None
        self._partitions: dict[int, _Partition] = {}
        self._waiting_for: str | None = None

    async def start(self) -> None:
        """Follow rules and lists, and wait until the current ones are read."""
        self._follower.start()
        await asyncio.to_thread(self._follower.catch_up)

    async def stop(self) -> None:
        """End following them."""
        await asyncio.to_thread(self._follower.stop)

    def problems(self) -> list[str]:
        """What the worker waits for, for readiness."""
        return [line for line in (self._follower.waiting_for, self._waiting_for) if line]

    @property
    def ruleset(self) -> int | None:
        """Number of the ruleset in force."""
        return self._follower.current.version.ruleset

    @property
    def refused(self) -> str | None:
        """Why the last activated ruleset is not in force, in one line."""
        return self._follower.refused

    async def plan(
        self, parts: Sequence[tuple[TP, Sequence[Any]]], acquired: set[TP], epoch: tuple[int, int], topic_id: str
    ) -> RulePlan:
        """The rules that the records of a batch meet, and the stamps to write before their decisions.

        parts: records of one partition each, in offset order, none empty. acquired: all partitions of this
        worker. topic_id: of the input topic.
        """
        if epoch != self._epoch:
            self._epoch, self._partitions = epoch, {}
        if new := {tp.partition for tp in acquired} - self._partitions.keys():
            firsts = {tp.partition: rows[0].offset for tp, rows in reversed(parts)}
            await self._acquire({partition: firsts.get(partition) for partition in new}, topic_id)
        current = self._follower.current
        stamps: list[OutgoingRecord] = []
        pieces: list[RulePiece] = []
        for tp, rows in parts:
            pieces += await self._pieces(tp.partition, rows, current, stamps, topic_id)
        if len(pieces) == len(parts) and all(piece.version == current.version for piece in pieces):
            records = join_records([piece.records for piece in pieces])
            written = OutgoingRecords.of(stamps) if stamps else NO_RECORDS
            return RulePlan(records, [(_used(current.state), len(records))], written)
        pieces = joined_pieces(pieces)
        states = [(_used(await self._state(piece.version, current)), len(piece.records)) for piece in pieces]
        return RulePlan(join_records([piece.records for piece in pieces]), states, OutgoingRecords.of(stamps))

    async def _acquire(self, offsets: Mapping[int, int | None], topic_id: str) -> None:
        """Read the stamps of partitions, and all records that they name."""
        try:
            self._waiting_for = f"the stamps of {len(offsets)} partitions"
            if not self._follower.is_ready:
                await asyncio.to_thread(self._follower.catch_up)
            found, rejected = await self._read(offsets, topic_id)
            last = [each.log.stamps[-1] for each in found.values() if each.log.stamps]
            if rejected or any(not self._is_of_same_topics(stamp.version) for stamp in last):
                await asyncio.to_thread(self._follower.catch_up)
                found, rejected = await self._read(offsets, topic_id)
        finally:
            self._waiting_for = None
        for reason, n in Counter(rejected).items():
            self._metrics.skipped.labels(self._settings.rule_activations_topic).inc(n)
            log.warning("skipped %d records of %s: %s", n, self._settings.rule_activations_topic, REJECTIONS[reason])
        self._partitions |= {partition: _Partition(each) for partition, each in found.items()}

    async def _read(
        self, offsets: Mapping[int, int | None], topic_id: str
    ) -> tuple[dict[int, FoundStamps], list[Rejection]]:
        s = self._settings
        rejected: list[Rejection] = []
        found = await read_activations(
            s.bootstrap,
            s.rule_activations_topic,
            offsets,
            group=s.consumer_group,
            topic_id=topic_id,
            is_plausible=lambda stamp: self._follower.current.covers(stamp),
            reject=rejected.append,
        )
        return found, rejected

    def _is_of_same_topics(self, version: RuleVersion) -> bool:
        current = self._follower.current.version
        return is_same_topic(version.rules_topic_id, current.rules_topic_id) and is_same_topic(
            version.lists_topic_id, current.lists_topic_id
        )

    async def _pieces(
        self, partition: int, rows: Sequence[Any], current: CurrentRules, stamps: list[OutgoingRecord], topic_id: str
    ) -> list[RulePiece]:
        """The records of a partition by the rules that they meet. Adds the stamp that is to be written, if any."""
        held = self._partitions[partition]
        if held.last is None:
            decided, rows = split_records(rows, await self._decided_until(partition, rows[0].offset, current, topic_id))
            pieces = stamped_pieces(decided, held.found.log)
            if not rows:
                return pieces
            known = held.found.log.stamps[-1] if held.found.log.stamps else NO_STAMP
            if known.from_offset <= rows[0].offset:
                held.last = known
        else:
            pieces = []
        if held.last is None or _is_due(held.last, current):
            held.last = current.stamp(rows[0].offset)
            stamps.append(held.last.record(partition, topic_id, self._settings.consumer_group))
            self._metrics.stamps.inc()
        return [*pieces, RulePiece(current.version, rows)]

    async def _decided_until(self, partition: int, offset: int, current: CurrentRules, topic_id: str) -> int:
        """Offset below which transactions from `offset` on may be decided already, by rules that are not current."""
        held = self._partitions[partition]
        if held.decided_until is not None:
            return held.decided_until
        if held.found.log.at(offset) is None and not held.found.is_complete:
            found, _ = await self._read({partition: offset}, topic_id)
            held.found = found[partition]
        stamps = held.found.log.stamps
        known = stamps[-1] if stamps else NO_STAMP
        if known.from_offset <= offset and (known.version == current.version or _both_empty(known, current)):
            return 0
        if held.found.log.at(offset) is None and not held.found.is_complete:
            held.decided_until = 0  # the stamps of these transactions are gone
            return 0
        held.decided_until = await self._output_end(partition, topic_id)
        return held.decided_until

    async def _output_end(self, partition: int, topic_id: str) -> int:
        """The offset after the last transaction of a partition that has a decision or a dead letter."""
        while True:
            try:
                lookback = 2 * self._settings.batch_max_records
                found = await asyncio.to_thread(read_output_offsets, self._settings, [partition], lookback)
                ours = [output.offset for output in found[partition] if is_same_topic(output.topic_id, topic_id)]
                return max(ours, default=-1) + 1
            except (BrokerError, KafkaError) as error:
                log.warning("the end of the decisions cannot be read yet: %s; retry in %.0f s", error, RETRY_DELAY_S)
                await asyncio.sleep(RETRY_DELAY_S)

    async def _state(self, version: RuleVersion | None, current: CurrentRules) -> RuleState | None:
        if version is None or version == current.version:
            return None if version is None else current.state
        while True:
            try:
                state = await asyncio.to_thread(self._follower.state_of, version)
                break
            except (BrokerError, KafkaError) as error:
                log.warning("earlier rules cannot be read yet: %s; retry in %.0f s", error, RETRY_DELAY_S)
                await asyncio.sleep(RETRY_DELAY_S)
        if state is not None:
            return state
        self._metrics.states_unavailable.inc()
        log.error(
            "%s with lists before offset %d cannot be read any more (records are gone, or a rule does not compile); "
            "what was decided by it is decided again by the current rules",
            "no ruleset" if version.ruleset is None else f"ruleset {version.ruleset}",
            version.lists_offset,
        )
        return current.state


def _used(state: RuleState | None) -> RuleState | None:
    """None if there is neither a ruleset nor an entry, so that deciding costs nothing more."""
    return None if state is None or (state.number is None and state.is_empty) else state


def _is_due(last: Stamp, current: CurrentRules) -> bool:
    """Whether the current state is to be stamped."""
    if _both_empty(last, current):
        return False
    return last.version != current.version or time.time() * 1000 - last.written_ms > REPEAT_STAMP_MS


def _both_empty(stamp: Stamp, current: CurrentRules) -> bool:
    return stamp.version.is_empty and current.version.is_empty
