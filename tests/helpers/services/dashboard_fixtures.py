"""A dashboard process on a real broker and registry, and the records that it displays."""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer

from monitoring.counting.monitored_model import MonitoredModel
from monitoring.drift.reference import load_reference
from schemas.configuration.child_environment import child_environment
from schemas.configuration.settings import Settings
from schemas.records import Decision, PaneSnapshot, Reason
from stream_app.decisions.handler import handle
from stream_app.kafka.kafka_clients import client_config
from tamiz.services.user_file import add_user
from tests.helpers.services.worker_process import isolated_settings, wait_for
from tests.helpers.traffic.drift_simulation import (
    PARTITIONS,
    POLICY,
    ROWS_PER_DAY,
    records_of,
    simulate_monitoring,
    traffic,
)
from training.registry import mlflow_registry, version_transitions
from training.registry.mlflow_registry import REPORT

MODEL = "card-transactions"
PDF = b"%PDF-1.4 a report\n"


@dataclass
class RunningDashboard:
    """A running `tamiz dashboard` and its settings."""

    url: str
    process: subprocess.Popen[bytes]
    settings: Settings
    bundle: Path
    token: str  # of ana, who may approve
    reader_token: str  # of leo, who may read

    def ask(self, page: str, *, token: str | None = "", form: dict[str, str] | None = None, **headers: str) -> Any:
        """Status and body of a response; with a form, the request is a POST. token: empty for ana's, None for none."""
        token = self.token if token == "" else token
        sent = headers | ({"Authorization": f"Bearer {token}"} if token else {})
        body = urllib.parse.urlencode(form).encode() if form is not None else None
        try:
            request = urllib.request.Request(self.url + page, body, sent)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("/state")[1]))

    def register_version(self) -> int:
        """Register a version with skill that waits for approval, with a report."""
        folder = self.bundle.parent / "evaluation"
        folder.mkdir(exist_ok=True)
        tags = {"gate_status": "skill", "gate_summary": "it has skill"}
        version = mlflow_registry.register(self.settings, self.bundle, report=folder, metrics={}, params={}, tags=tags)
        (folder / REPORT).write_bytes(PDF)
        mlflow_registry.log_artifact(self.settings, version, folder / REPORT)
        version_transitions.make_challenger(
            self.settings, version, "awaiting-approval", f"version {version} is better, by proof", by="a training"
        )
        return version

    def send(self, topic: str, *records: msgspec.Struct | bytes, partition: int = 0) -> None:
        producer = KafkaProducer(**client_config(self.settings.bootstrap), acks="all")
        try:
            for record in records:
                value = record if isinstance(record, bytes) else msgspec.json.encode(record)
                producer.send(topic, value, key=MODEL.encode(), partition=partition)
            producer.flush()
        finally:
            producer.close()

    def send_transactions(self, n: int) -> None:
        """Send transactions, and the decisions and dead letters that a worker makes of them."""
        records = records_of(traffic(days=1))[:n]
        decided = handle(records, MonitoredModel.load(self.bundle, 1), POLICY)
        producer = KafkaProducer(**client_config(self.settings.bootstrap), acks="all")
        s = self.settings
        try:
            for r in records:
                producer.send(s.transactions_topic, r.value, key=r.key, partition=r.partition)
            producer.flush()
            for out in decided.decisions:
                producer.send(s.decisions_topic, out.value, key=out.key, headers=out.headers, partition=out.partition)
            for out in decided.dead_letters:
                producer.send(s.dead_letters_topic, out.value, key=out.key, headers=out.headers)
            producer.flush()
        finally:
            producer.close()

    def drift(self) -> None:
        """Send the panes, alerts and reports of a day and a half; on the last day the amounts are shifted."""
        snapshots: list[PaneSnapshot] = []
        records = records_of(traffic("mean-shift", days=5))[-3 * ROWS_PER_DAY // 2 :]
        model, reference = MonitoredModel.load(self.bundle, 1), load_reference(self.bundle)
        found = simulate_monitoring(records, model, reference, on_snapshot=snapshots.append)

        def ours(record: Any) -> Any:
            return msgspec.structs.replace(record, model=MODEL)

        s = self.settings
        self.send(s.drift_panes_topic, *(ours(snapshot) for snapshot in snapshots))
        self.send(s.drift_alerts_topic, *(ours(alert) for e in found for alert in e.alerts))
        self.send(s.drift_reports_topic, *(ours(e.report) for e in found))


def decided(name: str, outcome: str = "decline", text: str = "monto 912.3: multiplies the odds") -> Decision:
    """A decision of version 1."""
    reason = Reason(feature="monto", value=912.3, contribution=1.2, text=text)
    return msgspec.convert(
        {
            "decision_id": name,
            "transaction_id": name,
            "score": 0.97,
            "outcome": outcome,
            "model_outcome": outcome,
            "decided_by": "model",
            "ruleset": None,
            "exploration_share": None,
            "threshold": 0.6,
            "reasons": [msgspec.to_builtins(reason)],
            "model": MODEL,
            "model_version": 1,
            "event_time_ms": 0,
        },
        Decision,
    )


@contextlib.contextmanager
def running_dashboard(bootstrap: str, simulated_registry: Settings, folder: Path) -> Iterator[RunningDashboard]:
    """Run `tamiz dashboard` on its own topics and a copy of a registry; it ends with the context."""
    (folder / "state").mkdir()
    shutil.copy(simulated_registry.state_dir / "mlflow.db", folder / "state")
    users = folder / "web-users"
    tokens = [add_user(users, name, [role]) for name, role in (("ana", "approve"), ("leo", "read"))]
    settings = isolated_settings(
        bootstrap,
        folder / "state",
        partitions=PARTITIONS,
        web_users_file=users,
        dashboard_port=0,
        registry_poll_seconds=1,
    )
    bundle = mlflow_registry.download_bundle(simulated_registry, 1, folder / "bundle")
    log = folder / "dashboard.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tamiz", "dashboard"],
            env=child_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:

        def address() -> str | None:
            assert process.poll() is None, log.read_text()[-6000:]
            found = re.search(r"dashboard on (http://\S+)/", log.read_text())
            return found[1] if found else None

        wait_for(address, 120, log.read_text)
        world = RunningDashboard(address() or "", process, settings, bundle, *tokens)
        wait_for(lambda: world.state()["reading_error"] is None, 120, lambda: str(world.state()))
        yield world
        process.terminate()
        assert process.wait(120) == 0, log.read_text()[-6000:]
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
