"""Drift reference of a model: reading and writing of `baseline.json`, the third file of a bundle.

Training creates it from the training history. A worker can score without it; the monitor needs it.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.counted_features import counted_bins
from monitoring.drift.baseline import HOURS_OF_WEEK, Baseline
from schemas.errors import ModelIncompatibleError
from schemas.json_codec import decode
from scoring.arrays import Floats
from scoring.bundle.manifest import BASELINE_FILE, BaselineRecord, read_manifest

REMEDY = "train the model again with `tamiz train`"


@dataclass(frozen=True, eq=False, kw_only=True)
class DriftReference:
    """Bins, baseline, importance and correlation of a model's features."""

    bins: FrozenBins
    baseline: Baseline
    importance: Floats  # shape (n_features,): share of the model's gain; 0 for score, alert and dead letter
    correlation: Floats  # shape (n_features, n_features), of numbers; NaN if undefined


def write_reference(folder: Path, reference: DriftReference) -> None:
    """Write a reference to a bundle's folder."""
    c = reference.baseline
    record = BaselineRecord(
        layout=reference.bins.digest,
        features=reference.bins.names,
        n_bins=reference.bins.n_bins,
        rows=tuple(c.rows.tolist()),
        dispersion=tuple(c.dispersion.tolist()),
        tolerance=tuple(c.tolerance.tolist()),
        importance=tuple(reference.importance.tolist()),
        correlation=tuple(tuple(None if np.isnan(x) else x for x in row) for row in reference.correlation.tolist()),
        shares=c.shares.astype("<f4").tobytes(),
    )
    (folder / BASELINE_FILE).write_bytes(msgspec.json.encode(record))


def load_reference(folder: Path) -> DriftReference:
    """Read the reference in a bundle's folder.

    Raises ModelIncompatibleError if it is missing or damaged, or if its bins are not those of the manifest.
    """
    path = folder / BASELINE_FILE
    bins = counted_bins(read_manifest(folder))
    try:
        record = decode(path.read_bytes(), BaselineRecord)
        shape = HOURS_OF_WEEK, len(bins.names), bins.n_bins
        if record.layout != bins.digest:
            raise ValueError("its bins are not those of the manifest")
        shares = np.frombuffer(record.shares, "<f4").reshape(shape).astype(np.float64)
        rows, dispersion, tolerance, importance, correlation = (
            np.array(values, dtype=np.float64)
            for values in (record.rows, record.dispersion, record.tolerance, record.importance, record.correlation)
        )
        if {len(v) for v in (rows, dispersion, tolerance, importance)} != {len(bins.names)}:
            raise ValueError(f"it does not have values for all {len(bins.names)} features")
        correlation = correlation.reshape(len(bins.names), len(bins.names))
        if not (np.isfinite(shares).all() and (shares >= 0).all() and (shares.sum(axis=-1) > 0).all()):
            raise ValueError("its shares are negative, not finite or sum to zero")
        if not all(np.isfinite(v).all() and (v >= 0).all() for v in (rows, dispersion, tolerance, importance)):
            raise ValueError("its rows, dispersion, tolerance or importance are negative or not finite")
        if (np.abs(correlation) > 1 + 1e-6).any():
            raise ValueError("a correlation is outside [-1, 1]")
    except FileNotFoundError:
        raise ModelIncompatibleError(f"{path}: no such file, so drift cannot be measured; {REMEDY}") from None
    except (OSError, ValueError, TypeError) as error:  # msgspec's errors are ValueErrors
        raise ModelIncompatibleError(f"{path}: {error}; {REMEDY}") from None
    # float32 has rounded the shares; normalise them to sum to one again.
    shares /= shares.sum(axis=-1, keepdims=True)
    baseline = Baseline(shares=shares, rows=rows, dispersion=dispersion, tolerance=tolerance)
    return DriftReference(bins=bins, baseline=baseline, importance=importance, correlation=correlation)
