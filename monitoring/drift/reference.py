"""What a model's live traffic is held against: the third file of a bundle, `baseline.json`, and how it is read.

It is plain data, made in training from the model's own history. A worker scores without it; whoever watches drift does
not begin without it.
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
    """A model's reference, as the detector reads it."""

    bins: FrozenBins
    calibration: Baseline
    importance: Floats  # shape (n_features,): share of the model's gain, 0 for what is no input
    correlation: Floats  # shape (n_features, n_features), of numbers; NaN where there is none


def write_reference(folder: Path, reference: DriftReference) -> None:
    """Put a reference into a bundle's folder."""
    c = reference.calibration
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
    """The reference in a bundle's folder.

    Raises ModelIncompatibleError when there is none, or when it is damaged or of another model's bins.
    """
    path = folder / BASELINE_FILE
    bins = counted_bins(read_manifest(folder))
    try:
        record = decode(path.read_bytes(), BaselineRecord)
        shape = HOURS_OF_WEEK, len(bins.names), bins.n_bins
        if record.layout != bins.digest:
            raise ValueError("it is of other bins than the manifest beside it")
        shares = np.frombuffer(record.shares, "<f4").reshape(shape).astype(np.float64)
        rows, dispersion, tolerance, importance, correlation = (
            np.array(values, dtype=np.float64)
            for values in (record.rows, record.dispersion, record.tolerance, record.importance, record.correlation)
        )
        if {len(v) for v in (rows, dispersion, tolerance, importance)} != {len(bins.names)}:
            raise ValueError(f"it does not speak of all {len(bins.names)} features")
        correlation = correlation.reshape(len(bins.names), len(bins.names))
        if not (np.isfinite(shares).all() and (shares >= 0).all() and (shares.sum(axis=-1) > 0).all()):
            raise ValueError("its shares are not shares")
        if not all(np.isfinite(v).all() and (v >= 0).all() for v in (rows, dispersion, tolerance, importance)):
            raise ValueError("its rows, dispersion, tolerance or importance are below zero or no numbers")
        if (np.abs(correlation) > 1 + 1e-6).any():
            raise ValueError("a correlation lies beyond 1")
    except FileNotFoundError:
        raise ModelIncompatibleError(f"{path}: not there, so its drift cannot be told; {REMEDY}") from None
    except (OSError, ValueError, TypeError) as error:  # msgspec's are ValueErrors
        raise ModelIncompatibleError(f"{path}: {error}; {REMEDY}") from None
    # float32 has rounded them; what they sum to must not differ from one.
    shares /= shares.sum(axis=-1, keepdims=True)
    calibration = Baseline(shares=shares, rows=rows, dispersion=dispersion, tolerance=tolerance)
    return DriftReference(bins=bins, calibration=calibration, importance=importance, correlation=correlation)
