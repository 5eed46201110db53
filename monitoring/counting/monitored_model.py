"""A model version as it is served and watched: scoring, and the bins in which its transactions are counted."""

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
    """A scoring model whose bundle also holds what drift is counted against."""

    @classmethod
    def load(cls, folder: Path, version: int, passed: Path | None = None) -> Self:
        """Load a bundle as `ScoringModel.load` does, and check its profile and its baseline.

        Raises ModelIncompatibleError as `ScoringModel.load` does, and when the profile or the baseline does not fit.
        """
        scoring = super().load(folder, version, passed)
        check_distributions(scoring.manifest)
        check_profile(scoring.manifest)
        if (folder / BASELINE_FILE).exists():
            load_reference(folder)
        return scoring

    @cached_property
    def bins(self) -> FrozenBins:
        """The bins in which each transaction that it scores is counted."""
        return counted_bins(self.manifest)


def check_distributions(manifest: Manifest) -> None:
    """Raise ModelIncompatibleError when the profile is not one of each feature, or counts what cannot be counted."""
    profiled = [p.name for p in manifest.profile]
    if profiled != [*manifest.names, SCORE, ALERT, DEAD_LETTER]:
        raise bundle_error("profile", f"of {len(profiled)} names, not of the features, {SCORE}, {ALERT}, {DEAD_LETTER}")
    for p in manifest.profile:
        edges = np.array(p.edges)
        if not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
            raise bundle_error(f"profile.{p.name[:60]!r}.edges", "not finite and ascending")
        if not all(0 <= n < 2**53 for n in (*p.counts, p.missing)):
            raise bundle_error(f"profile.{p.name[:60]!r}.counts", "a count below 0 or beyond 2^53")
