"""Child process of the trial load: loads and checks a bundle under limits of memory and CPU time."""

import contextlib
import os
import resource
import sys
from pathlib import Path

import numpy as np

from schemas.errors import ModelIncompatibleError, TamizError
from scoring.bundle.bundle_trial import MAX_CPU_S, mark_loadable
from scoring.bundle.manifest import MODEL_FILE
from scoring.model import ScoringModel

MEMORY_BYTES = 1024**3  # limit in addition to the memory of the imports
MEMORY_FACTOR = 8  # further bytes per byte of the trees


def main(folder: str, sha256: str) -> None:
    """Load a bundle; exit with 0, or with 1 and the reason on stdout. sha256: expected digest of the trees."""
    _limit(Path(folder) / MODEL_FILE)
    mark_loadable(sha256)
    try:
        model = ScoringModel.load(Path(folder), version=0)
        if model.manifest.model_sha256 != sha256:
            raise ModelIncompatibleError(f"{folder}: the trees changed during loading; fetch the bundle again")
        check_contributions(model)
    except TamizError as error:
        print(error)
        sys.exit(1)
    except Exception as error:
        print(f"{folder}: {type(error).__name__}: {error}".splitlines()[0])
        sys.exit(1)


def check_contributions(model: ScoringModel) -> None:
    """Compute contributions as an explanation does. Raises ModelIncompatibleError if one is not finite."""
    rows = np.array([g.features for g in model.manifest.golden], dtype=np.float32)
    if not np.isfinite(model.contributions(rows)).all():
        raise ModelIncompatibleError("the contributions of a golden vector are not finite; train the model again")


def _limit(trees: Path) -> None:
    with contextlib.suppress(OSError, ValueError):  # the system's limit may be lower
        os.nice(10)  # the scoring loop has priority
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    with contextlib.suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = taken + MEMORY_BYTES + MEMORY_FACTOR * trees.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
