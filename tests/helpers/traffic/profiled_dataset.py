"""A declaration with profiles of each kind: the shipped data set, with profiles of card, shop and labels."""

from importlib import resources
from pathlib import Path

from schemas.dataset.declaration import Dataset, load_dataset

PROFILES = """
[[profiles]]
entity = "ID_USER"
windows = ["1h", "1d"]
features = ["count", "mean(monto)", "ratio(monto)", "seconds_since_last", "is_new(ciudad)"]

[[profiles]]
entity = "establecimiento"
windows = ["1d", "7d"]
lag = "2h"
features = ["count", "mean(monto)"]

[[profiles]]
entity = "establecimiento"
windows = ["1d"]
label_delay = "6h"
features = ["labelled_count", "fraud_rate", "last_label"]
"""


def write_profiled(folder: Path, profiles: str = PROFILES) -> Path:
    """Write the declaration into a folder and return its path."""
    shipped = (resources.files("schemas.dataset") / "card_transactions.toml").read_text(encoding="utf-8")
    path = folder / "profiled.toml"
    path.write_text(shipped + profiles, encoding="utf-8")
    return path


def profiled_dataset(folder: Path, profiles: str = PROFILES) -> Dataset:
    """The data set of the declaration."""
    return load_dataset(str(write_profiled(folder, profiles)))
