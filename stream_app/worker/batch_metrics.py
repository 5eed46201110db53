"""Metrics and log lines of a batch that is written."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from schemas.record_parts import last_offset
from stream_app.decisions.decision_headers import OFFSET_HEADER
from stream_app.decisions.handler import HandlerResult
from stream_app.kafka.batches.record_columns import RecordColumns
from stream_app.worker.worker_metrics import WorkerMetrics

log = logging.getLogger("tamiz.worker")


def observe_batch(
    metrics: WorkerMetrics, records: Sequence[Any], handled: HandlerResult, handling_s: float, producing_s: float
) -> None:
    """Count a batch in the metrics; log conflicts of ids, and at debug level every decision."""
    metrics.batch_records.observe(len(records))
    metrics.batch_scoring.observe(handling_s)
    metrics.batch_publishing.observe(producing_s)
    if (first_ms := _first_sent_ms(records)) is not None:
        metrics.latency.observe(max(0.0, time.time() - first_ms / 1000))
    for outcome, count in handled.outcomes.items():
        metrics.decisions.labels(outcome).inc(count)
    metrics.rules.observe(len(handled.decisions), handled.rules)
    for rejection in handled.rejections:
        metrics.dead_letters.labels(rejection.code).inc()
    if any(rejection.code == "unreadable" for rejection in handled.rejections):
        metrics.records_without_dead_letter.inc(sum(last_offset(r) - r.offset for r in records))
    for part, count in handled.truncated_parts.items():
        metrics.truncated_parts.labels(part).inc(count)
    if handled.incomplete:
        metrics.profile_incomplete.inc(handled.incomplete)
    if handled.conflicts:
        first = handled.conflicts[0]
        metrics.id_conflicts.inc(len(handled.conflicts))
        log.warning(
            "%d transactions have the id of an earlier one and a different payload; the earlier decision counts; "
            "the first is decision %s in partition %d; producers must not reuse ids",
            len(handled.conflicts),
            (dict(first.headers)["ce_id"] or b"").decode(),
            first.partition,
        )
    if log.isEnabledFor(logging.DEBUG):
        _log_decisions(handled)


def _first_sent_ms(records: Sequence[Any]) -> int | None:
    """The earliest time at which a record was sent, of those that have a valid one."""
    # From columns no object of each record is made.
    times = records.timestamps.tolist() if isinstance(records, RecordColumns) else [r.timestamp for r in records]
    return min((time_ms for time_ms in times if time_ms > 0), default=None)


def _log_decisions(handled: HandlerResult) -> None:
    """Log the input offset and the decision id of each decision at debug level, without their contents."""
    for decision in handled.decisions:
        headers = {name: value or b"" for name, value in decision.headers}
        place = {"partition": decision.partition, "offset": int(headers[OFFSET_HEADER])}
        decision_id = headers["ce_id"].decode()
        log.debug("%d-%d decided: %s", *place.values(), decision_id, extra=place | {"decision_id": decision_id})
