"""A bundle serves where nothing is installed that only training needs."""

import subprocess
import sys
from pathlib import Path

from monitoring.counting.monitored_model import MonitoredModel
from schemas.dataset.declaration import load_dataset
from stream_app.decisions.handler import HandlerPolicy, handle
from tests.helpers.bundles.minimal_imports import StdinRecord

ROOT = Path(__file__).parent.parent.parent.parent


def test_a_bundle_serves_in_a_fresh_process_without_anything_of_trainings(
    champion_bundle: Path, real_payloads: list[bytes]
) -> None:
    sent = real_payloads[:3000]
    served = subprocess.run(
        [sys.executable, "-m", "tests.helpers.bundles.minimal_imports", str(champion_bundle)],
        input=b"\n".join(sent),
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert served.returncode == 0, served.stderr.decode()
    records = [StdinRecord("t", 0, i, None, value) for i, value in enumerate(sent)]
    policy = HandlerPolicy(load_dataset("card_transactions"), "tamiz", 65_536, counting=False)
    here = handle(records, MonitoredModel.load(champion_bundle, 3), policy).decisions
    assert served.stdout.splitlines() == [out.value for out in here]
    assert b'"reasons":[{' in served.stdout
