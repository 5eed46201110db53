"""The demo's second half: customers change, drift is detected, a new version is trained, promoted and served.

Event time runs faster than the clock: twenty days pass in seconds.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from schemas.configuration.settings import Settings
from schemas.records import DriftAlert, ModelEvent, RetrainRequest
from tamiz.demo.event_follower import follow_events
from tamiz.simulation.drift_injection import InjectedDrift
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tamiz.terminal import Terminal

ROWS_PER_DAY = 1_500
DAYS = 19  # enough data of the changed customers to train on, in addition to the held-out week
TIMEOUT_S = 240
FINAL_CHANGES = ("promoted", "retained", "awaiting-approval", "training-failed")
BAR_LENGTH = 24  # characters of a full bar

Pairs = list[tuple[bytes | None, bytes | None]]


class DemoStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the retraining loop, for the JSON summary."""

    step: str
    after_s: float  # since the demo began
    event_time_ms: int | None = None
    detail: str = ""


def fast_settings(settings: Settings) -> Settings:
    """Settings for event time that runs faster than the clock, and for one training on the new customers only."""
    return msgspec.structs.replace(
        settings,
        idle_partition_timeout_minutes=365 * 1440,
        retrain_sustained_hours=(DAYS - 4) * 24,
        retrain_lookback_days=DAYS - 2,
    )


def changed_customers(start_ms: int, days: int, seed: int) -> Pairs:
    """Days of traffic of customers who spend less and whose fraud differs, from the first transaction on."""
    drift = (
        InjectedDrift(kind="mean-shift", at_ms=start_ms, strength=-0.7, feature="monto"),
        InjectedDrift(kind="concept", at_ms=start_ms, strength=1.0),
    )
    traffic = Traffic(rows=days * ROWS_PER_DAY, seed=seed, signal=True, start_ms=start_ms, days=days, drift=drift)
    return list(keyed_payloads(traffic))


def follow_retraining(
    settings: Settings, from_ms: int, since: float, console: Terminal, check: Callable[[], None]
) -> Iterator[DemoStep]:
    """Yield the steps of the retraining loop from its topics until it ends. Draws the first alert of a shift.

    from_ms: event time; alerts of incidents before it are left out. since: start of the demo, monotonic seconds.
    check: called often; raises if a service has failed. Raises TamizError after `TIMEOUT_S`.
    """
    topics: dict[str, type[Any]] = {
        settings.drift_alerts_topic: DriftAlert,
        settings.retrain_requests_topic: RetrainRequest,
        settings.model_events_topic: ModelEvent,
    }
    drawn = False
    for event in follow_events(settings, topics, TIMEOUT_S, check):
        if isinstance(event, DriftAlert) and event.opened_at_ms < from_ms:
            continue
        yield _printed(_step(event, since), console)
        if isinstance(event, DriftAlert) and event.kind == "shift" and event.evidence and not drawn:
            console.print(draw_evidence(event))
            drawn = True
        if isinstance(event, ModelEvent) and event.change in FINAL_CHANGES:
            return


def alert_step(alert: DriftAlert, since: float, console: Terminal) -> DemoStep:
    """The step of an alert, printed."""
    return _printed(_step(alert, since), console)


def draw_evidence(alert: DriftAlert) -> Table:
    """The two distributions of the feature with the strongest drift, one bar per bin."""
    evidence = alert.evidence[0]
    title = f"{evidence.feature}, {evidence.window}: PSI {evidence.psi:.3f}"
    table = Table("bin", "reference", "current", title=title, title_justify="left", box=None)
    largest = max((*evidence.reference, *evidence.current), default=0.0) or 1.0
    for label, before, now in zip(evidence.labels, evidence.reference, evidence.current, strict=True):
        bars = ("█" * round(BAR_LENGTH * share / largest) + f" {share:.1%}" for share in (before, now))
        table.add_row(label, *bars)
    return table


def _printed(step: DemoStep, console: Terminal) -> DemoStep:
    console.print(Text.assemble((step.step, "bold"), f" {step.detail}"))
    return step


def _step(event: DriftAlert | RetrainRequest | ModelEvent, since: float) -> DemoStep:
    after_s = round(time.monotonic() - since, 1)
    if isinstance(event, DriftAlert):
        name = f"alert {event.change}, {event.kind}"
        return DemoStep(step=name, after_s=after_s, event_time_ms=event.happened_at_ms, detail=event.summary)
    if isinstance(event, RetrainRequest):
        detail = f"{event.cause}: {event.reason}"
        return DemoStep(step="retraining requested", after_s=after_s, event_time_ms=event.until_ms, detail=detail)
    version = f"version {event.model_version}: " if event.model_version is not None else ""
    return DemoStep(step=event.change, after_s=after_s, detail=version + event.reason)
