"""The warm-up of a worker."""

import json
import subprocess
import sys


def test_after_a_warm_up_neither_traffic_nor_another_model_compiles_anything() -> None:
    words = [sys.executable, "-m", "tests.helpers.services.warm_traffic"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["compiled"] == []
    assert all(n > 1_000 for n in found["decisions"])
