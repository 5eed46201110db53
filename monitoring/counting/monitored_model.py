"""A scoring model with the bins in which its transactions are counted for drift detection."""

from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from monitoring.counting.bins import FrozenBins
from monitoring.counting.counted_features import check_profile, counted_bins
from monitoring.counting.reference_profile import ALERT, DEAD_LETTER, SCORE
from monitoring.drift.reference import load_reference
from scoring.bundle.bundle_validation import bundle_error
from scoring.bundle.manifest import BASELINE_FILE, Manifest
from scoring.model import ScoringModel


class MonitoredModel(ScoringModel):
    """A scoring model whose bundle also has a valid profile and baseline."""

    @classmethod
    def load(cls, folder: Path, version: int, passed: Path | None = None) -> Self:
        """Load a bundle as `ScoringModel.load` does, and check its profile and baseline.

        Raises ModelIncompatibleError as `ScoringModel.load` does, and if the profile or the baseline is invalid.
        """
        scoring = super().load(folder, version, passed)
        check_histograms(scoring.manifest)
        check_profile(scoring.manifest)
        if (folder / BASELINE_FILE).exists():
            load_reference(folder)
        return scoring

    @cached_property
    def bins(self) -> FrozenBins:
        """Bins in which the scored transactions are counted."""
        return counted_bins(self.manifest)


def check_histograms(manifest: Manifest) -> None:
    """Raise ModelIncompatibleError if the profile lacks a feature, or has invalid edges or counts."""
    profiled = [p.name for p in manifest.profile]
    if profiled != [*manifest.names, SCORE, ALERT, DEAD_LETTER]:
        raise bundle_error("profile", f"of {len(profiled)} names, not of the features, {SCORE}, {ALERT}, {DEAD_LETTER}")
    for p in manifest.profile:
        edges = np.array(p.edges)
        if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise bundle_error(f"profile.{p.name[:60]!r}.edges", "not finite and ascending")
        if not all(0 <= n < 2**53 for n in (*p.counts, p.missing)):
            raise bundle_error(f"profile.{p.name[:60]!r}.counts", "a count below 0 or beyond 2^53")
