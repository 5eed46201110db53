"""The import contracts in pyproject.toml hold."""

import subprocess
import sys
from pathlib import Path


def test_no_package_imports_a_sibling_it_should_not_know() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-logo"], cwd=Path(__file__).parent.parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
