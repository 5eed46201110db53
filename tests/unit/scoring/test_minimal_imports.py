"""Serving a bundle needs none of the packages of training."""

import subprocess
import sys
from pathlib import Path

from monitoring.counting.monitored_model import MonitoredModel
from schemas.configuration.settings import Settings, load
from schemas.dataset.declaration import load_dataset
from stream_app.decisions.handler import HandlerPolicy, handle
from tamiz.simulation.payload_formats import keyed_payloads
from tamiz.simulation.simulator import Traffic
from tests.helpers.bundles.minimal_imports import StdinRecord
from training.registry.mlflow_registry import download_bundle

ROOT = Path(__file__).parent.parent.parent.parent


# What the image of the worker runs. pyarrow is in it, for `tamiz score`; the worker itself does without.
SERVICES = """
import sys
from schemas.extras import PACKAGES, skip_unused_libraries
skip_unused_libraries()
sys.modules.update(dict.fromkeys(module for modules in PACKAGES.values() for module in modules))
import stream_app.worker.worker
assert "mlflow" not in sys.modules  # a registry server is read over its REST interface
import tamiz.batch.file_payloads
del sys.modules["pyarrow"]
import stream_app.monitor.monitor_loop, stream_app.dashboard.main, tamiz.notifications.notifier
import tamiz.services.approval, tamiz.services.retrainer_service, tamiz.batch.batch_scoring, tamiz.batch.file_counter
"""


def test_every_service_and_tool_of_the_workers_image_is_imported_without_the_libraries_of_training() -> None:
    ended = subprocess.run([sys.executable, "-c", SERVICES], capture_output=True, cwd=ROOT, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr.decode()


HELP = """
import sys
from tamiz.main import run
sys.argv = ["tamiz", "--help"]
try:
    run()
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"aiohttp", "aiokafka", "faust", "kafka", "mlflow", "numba", "numpy", "pandas", "prometheus_client", "scipy"}
MAX_MODULES = 600  # 460 when this was written, most of them of rich and of Python's library


def test_the_help_imports_the_command_line_and_no_library_of_the_commands() -> None:
    ended = subprocess.run([sys.executable, "-c", HELP], capture_output=True, cwd=ROOT, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "worker" in ended.stdout
    imported = ended.stderr.split()
    assert HEAVY & set(imported) == set()
    assert len(imported) < MAX_MODULES


def test_a_bundle_serves_in_a_fresh_process_without_anything_of_trainings(
    simulated_registry: Settings, tmp_path: Path
) -> None:
    bundle = download_bundle(simulated_registry, 1, tmp_path)
    # With a signal, so that some transactions are flagged: reasons are given for those only.
    sent = [value for _, value in keyed_payloads(Traffic(rows=1_500, seed=3, signal=True))]
    served = subprocess.run(
        [sys.executable, "-m", "tests.helpers.bundles.minimal_imports", str(bundle)],
        input=b"\n".join(sent),
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert served.returncode == 0, served.stderr.decode()
    records = [StdinRecord("t", 0, i, None, value) for i, value in enumerate(sent)]
    policy = HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=False)
    here = handle(records, MonitoredModel.load(bundle, 3), policy).decisions
    assert served.stdout.splitlines() == [out.value for out in here]
    assert b'"reasons":[{' in served.stdout
