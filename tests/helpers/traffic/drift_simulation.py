"""Runs simulated traffic through worker and monitor code without Kafka, from payloads to drift evaluations."""

import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.counting.pane_codec import to_records
from monitoring.counting.panes import PartitionPanes
from monitoring.drift.context import AlertContext
from monitoring.drift.drift_monitor import DriftEvaluation, DriftMonitor, DriftMonitorPolicy
from monitoring.drift.reference import DriftReference
from schemas.configuration.settings import load
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision, DriftAlert, PaneSnapshot, RetrainRequest
from schemas.time_units import DAY_MS, MINUTE_MS
from stream_app.decisions.handler import HandlerPolicy, handle
from tamiz.simulation.drift_injection import KINDS, InjectedDrift
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic

PARTITIONS = 4
GRACE_MS, IDLE_MS = 10 * MINUTE_MS, DAY_MS
POLICY = HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=True)
FIRST_DAY_MS = (
    Traffic(rows=1, seed=0).start_ms + 29 * DAY_MS
)  # the day after the history of the fixture `simulated_registry`
ROWS_PER_DAY = 690
SHIFT_DAY = 4
SHIFT_MS = FIRST_DAY_MS + SHIFT_DAY * DAY_MS


class SimulatedRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def traffic(kind: str | None = None, strength: float | None = None, days: int = 8, seed: int = 2) -> Traffic:
    """Traffic of the days after the history, with drift injected at `SHIFT_MS` if `kind` is given."""
    drift = ()
    if kind is not None:
        of = KINDS[kind]
        feature = (*of.features, None)[0]
        drift = (InjectedDrift(kind=kind, at_ms=SHIFT_MS, strength=strength or of.default, feature=feature),)
    return Traffic(
        rows=days * ROWS_PER_DAY,
        seed=seed,
        signal=True,
        payload_format="mixed",
        start_ms=FIRST_DAY_MS,
        days=days,
        drift=drift,
    )


def records_of(traffic: Traffic) -> list[SimulatedRecord]:
    """The records on the topic, in sending order."""
    ends = [0] * PARTITIONS
    found = []
    for key, value in keyed_payloads(traffic):
        partition = sum(key or b"") % PARTITIONS
        found.append(SimulatedRecord("transactions", partition, ends[partition], key or b"", value))
        ends[partition] += 1
    return found


def simulate_monitoring(
    records: list[SimulatedRecord],
    model: MonitoredModel,
    reference: DriftReference,
    *,
    workers: int = 1,
    seed: int | None = None,
    policy: DriftMonitorPolicy | None = None,
    on_snapshot: Callable[[PaneSnapshot], None] = lambda snapshot: None,
) -> list[DriftEvaluation]:
    """All drift evaluations of some traffic.

    workers: number that share the partitions. seed: draws batch sizes; without it they are 400. on_snapshot: called
    with each pane snapshot.
    """
    chance = random.Random(seed)
    watch = DriftMonitor(
        reference,
        model="m",
        model_version=1,
        partitions=PARTITIONS,
        lateness_ms=GRACE_MS,
        idle_timeout_ms=IDLE_MS,
        policy=policy,
    )
    around = AlertContext()
    folds = [PartitionPanes(model.bins, p, GRACE_MS) for p in range(PARTITIONS)]
    found: list[DriftEvaluation] = []
    at = 0
    while at < len(records):
        size = 400 if seed is None else chance.randint(1, 400)
        batch = records[at : at + size]
        at += size
        for worker in range(workers):
            mine = [r for r in batch if r.partition % workers == worker]
            if not mine:
                continue
            handled = handle(mine, model, POLICY)
            for out in handled.decisions:
                around.add_decision(out.key, msgspec.json.decode(out.value or b"", type=Decision))
            assert handled.coded is not None
            for p in {r.partition for r in mine}:
                rows = np.array([i for i, r in enumerate(mine) if r.partition == p])
                folds[p].update(
                    handled.coded.codes[rows],
                    handled.coded.event_times_ms[rows],
                    np.array([mine[i].offset for i in rows]),
                )
                counted = folds[p].snapshot()
                for _, snapshot in to_records(counted, model="m", model_version=1, layout=model.bins.digest):
                    on_snapshot(snapshot)
                    found += watch.update(snapshot, around)
    return found


def alerts_of(evaluations: list[DriftEvaluation]) -> list[DriftAlert]:
    return [a for e in evaluations for a in e.alerts]


def requests_of(evaluations: list[DriftEvaluation]) -> list[RetrainRequest]:
    return [e.request for e in evaluations if e.request is not None]
