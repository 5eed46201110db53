"""Scores payloads with a bundle in a process in which the packages of training cannot be imported.

python -m tests.helpers.bundles.minimal_imports BUNDLE < payloads > decisions
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NamedTuple

TRAINING_PACKAGES = frozenset(
    ("training", "mlflow", "shap", "imblearn", "reportlab", "sweetviz", "matplotlib", "sklearn", "pandas", "pyarrow")
)


class MissingPackageFinder(MetaPathFinder):
    """Makes the packages of training look missing. XGBoost imports some of them when they are installed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] in TRAINING_PACKAGES:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


class StdinRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def main() -> None:
    sys.meta_path.insert(0, MissingPackageFinder())
    from monitoring.counting.monitored_model import MonitoredModel
    from monitoring.drift.reference import load_reference
    from schemas.configuration.settings import load
    from schemas.dataset.declaration import load_dataset
    from stream_app.decisions.handler import HandlerPolicy, handle

    folder = Path(sys.argv[1])
    load_reference(folder)
    policy = HandlerPolicy.from_settings(load({}), load_dataset("card_transactions"), counting=True)
    records = [StdinRecord("t", 0, i, None, line.rstrip(b"\n")) for i, line in enumerate(sys.stdin.buffer)]
    for out in handle(records, MonitoredModel.load(folder, 3), policy).decisions:
        sys.stdout.buffer.write((out.value or b"") + b"\n")
    if imported := sorted(TRAINING_PACKAGES & set(sys.modules)):
        raise SystemExit(f"serving imported {', '.join(imported)}")


if __name__ == "__main__":
    main()
