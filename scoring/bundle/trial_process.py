"""The child process that loads a bundle first: within limits, and with nothing to lose."""

import contextlib
import os
import resource
import sys
from pathlib import Path

import msgspec
import numpy as np

from schemas.errors import ModelIncompatibleError, TamizError
from scoring.bundle.bundle_trial import MAX_CPU_S, remember
from scoring.bundle.bundle_validation import check_trees
from scoring.bundle.manifest import MODEL_FILE
from scoring.model import ScoringModel

MEMORY_BYTES = 1024**3  # beyond what the imports take, and for each byte of the trees:
MEMORY_FACTOR = 8


def main(folder: str, sha256: str) -> None:
    """Load a bundle and end with 0, or with 1 and the reason on stdout. sha256: of the trees that are meant."""
    _limit(Path(folder) / MODEL_FILE)
    remember(sha256)
    try:
        model = ScoringModel.load(Path(folder), version=0)
        if model.manifest.model_sha256 != sha256:
            raise ModelIncompatibleError(f"{folder}: its trees changed while they were read; fetch it again")
        inspect(model)
    except TamizError as error:
        print(error)
        sys.exit(1)
    except Exception as error:
        print(f"{folder}: {type(error).__name__}: {error}".splitlines()[0])
        sys.exit(1)


def inspect(model: ScoringModel) -> None:
    """Look at every tree, and ask for contributions as an explanation would.

    Raises ModelIncompatibleError when a tree is broken or something is not a number.
    """
    try:
        check_trees(msgspec.json.decode(model.as_json())["learner"], len(model.manifest.features))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ModelIncompatibleError(f"the trees are not built as XGBoost builds them: {error!r}") from None
    rows = np.array([g.features for g in model.manifest.golden], dtype=np.float32)
    if not np.isfinite(model.contributions(rows)).all():
        raise ModelIncompatibleError("a golden vector's contributions are no numbers; train the model again")


def _limit(trees: Path) -> None:
    with contextlib.suppress(OSError, ValueError):  # a limit of the machine's own may be lower
        os.nice(10)  # the scoring loop comes first
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    with contextlib.suppress(OSError, ValueError):
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = taken + MEMORY_BYTES + MEMORY_FACTOR * trees.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
