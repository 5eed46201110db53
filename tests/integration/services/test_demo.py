"""A short `tamiz demo` run, end to end."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.configuration.child_environment import child_environment
from tests.conftest import Kafka
from tests.helpers.services.worker_process import isolated_settings


@pytest.mark.kafka
def test_the_demo_answers_every_transaction_and_says_so_to_machines(kafka: Kafka, tmp_path: Path) -> None:
    settings = isolated_settings(kafka.bootstrap_servers, tmp_path / "state")
    out = tmp_path / "summary.json"
    done = subprocess.run(
        [sys.executable, "-m", "tamiz", "demo", "--rows", "600", "--rate", "300", "--json", str(out)],
        env=child_environment(settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(out.read_text())
    assert summary["transactions"] == summary["decisions"] + summary["dead_letters"] > 600
    assert sum(summary["outcomes"].values()) == summary["decisions"]
    assert sum(summary["dead_letter_codes"].values()) == summary["dead_letters"] > 0
    assert 0 < summary["latency"]["p50_ms"] <= summary["latency"]["p99_ms"]
    assert "mlflow ui" in done.stdout
    steps = [step["step"] for step in summary["story"]]
    assert steps[0] == "cards tested"
    assert steps[1] in ("alert opened, attack", "alert grew, attack")
    assert steps[2:5] == ["cards blocked", "declined by list", "alert closed, attack"]
    assert (found := re.search(r"sent ([\d.]+) s after the entry", summary["story"][3]["detail"]))
    assert float(found[1]) < 5, "a second on an idle machine"
    printed = [
        "drift injected",
        "alert opened, shift",
        "retraining requested",
        "training-started",
        "registered",
        "promoted",
    ]
    assert [step for step in printed if step not in steps] == []
    assert (steps[-1], summary["model_version"]) == ("swapped", 2)
    gain = summary["profiles"]
    assert gain["card_precision_without"] < gain["card_precision"] < gain["attainable_card_precision"]
    assert gain["value_detected_without"] < gain["value_detected"]
